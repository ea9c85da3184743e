"""What questions behind one prompt of passages attend to in it, at every head: what three of the baselines read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.models.attention import LayersRead, causal
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.reading.reading import PassageReading
from ctxshaper.stages.units import Unit, by_passage

Numbers = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Documents:
    """Passages in one prompt, up to where a question begins.

    Attributes:
        ids: the tokens, those in front of the passages included.
        places: by passage, the range of `ids` that its own text takes; its title is not part of it.
        offsets: by passage, [n, 2] where each of these tokens lies in its source.
    """

    ids: list[int]
    places: tuple[tuple[int, int], ...]
    offsets: tuple[NDArray[np.int64], ...]

    @classmethod
    def of(cls, model: LanguageModel, lead: str, passages: Sequence[Passage], *, numbered: bool = False) -> Documents:
        """Passages with their titles behind the beginning of a user's turn.

        Args:
            model: whose tokens and chat template count.
            lead: stands in front of the passages.
            passages: whose `source` is read.
            numbered: begin each with its number, as in `[1]`.
        """
        ids = model.chat.opening + model.encoder.markup(lead)
        places, offsets = [], []
        for number, passage in enumerate(passages, start=1):
            title = f"{passage.title}\n" if passage.title else ""
            ids += model.encoder.data((f"[{number}] " if numbered else "") + title)[0]
            own, where = model.encoder.data(passage.source)
            places.append((len(ids), len(ids) + len(own)))
            offsets.append(where)
            ids += own + model.encoder.markup("\n\n")
        return cls(ids, tuple(places), tuple(offsets))

    def of_units(self, units: Sequence[Unit], values: Numbers) -> NDArray[np.float64]:
        """[..., len(units)] mean of the values [..., len(ids)] over each unit's tokens; 0 for a unit without any."""
        found = np.zeros((*values.shape[:-1], len(units)))
        for passage, own in by_passage(units).items():
            offsets, (start, end) = self.offsets[passage], self.places[passage]
            for place in own:
                # By itself: units that a method wrote may overlap.
                inside = PassageReading(offsets, np.zeros(len(offsets), np.float32)).tokens_of([units[place].span]) == 0
                if inside.any():
                    found[..., place] = values[..., start:end][..., inside].mean(-1)
        return found


@dataclass(frozen=True)
class Tail:
    """What stands behind the documents.

    Attributes:
        ids: the tokens.
        rows: those of them that look back, as a range.
    """

    ids: list[int]
    rows: range

    @classmethod
    def of(cls, model: LanguageModel, before: str, question: str, after: str, rows: str) -> Tail:
        """A question in its frame, up to where the answer begins.

        Args:
            model: whose tokens and chat template count.
            before: the project's own text in front of the question.
            question: somebody's text.
            after: the project's own text behind it, in the same turn.
            rows: which tokens look back: "all", "question" or "last".
        """
        first, own = model.encoder.markup(before), model.encoder.data(question)[0]
        ids = first + own + model.encoder.markup(after) + model.chat.closing
        looked = {
            "all": range(len(ids)),
            "question": range(len(first), len(first) + len(own)),
            "last": range(len(ids) - 1, len(ids)),
        }
        return cls(ids, looked[rows])


def attended(model: LanguageModel, documents: Documents, tails: Sequence[Tail]) -> list[Numbers]:
    """Read the documents once, causally, and behind them each tail as if it stood there alone.

    Returns:
        By tail, [L, H, len(documents.ids)] attention to each token: softmax over documents and tail, mean over its
        rows.

    Raises:
        InvalidInputError: the prompt is longer than the model's window.
        ModelError: the model gives attention that is not a number.
    """
    first = len(documents.ids)
    longest = first + max(len(tail.ids) for tail in tails)
    if longest > model.context_window:
        raise InvalidInputError(
            f"the prompt has {longest} tokens, but {model.name} reads {model.context_window}; use fewer passages"
        )
    ids, positions = list(documents.ids), list(range(first))
    for tail in tails:
        ids += tail.ids
        positions += range(first, first + len(tail.ids))
    call = _Look(first, tails, model.layers - 1)
    model.run(ids, positions, call)
    found = [torch.stack(layers).cpu().numpy() for layers in call.found]
    if not all(np.isfinite(one).all() for one in found):
        raise ModelError("the model gave attention that is not a number; use dtype='float32'")
    return found


@dataclass
class _Look:
    """Ordinary causal attention in which several tails continue the same documents; keeps what tails look at."""

    first: int
    tails: Sequence[Tail]
    last: int
    found: list[list[Tensor]] = field(default_factory=list)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        first, outs, start = self.first, [], self.first
        self.found = self.found or [[] for _ in self.tails]
        if layer < self.last:
            outs.append(causal(q[:, :first], k[:, :first], v[:, :first], scale, softcap))
        group = q.shape[0] // k.shape[0]
        for tail, found in zip(self.tails, self.found, strict=True):
            end = start + len(tail.ids)
            keys, values = (
                torch.cat((x[:, :first], x[:, start:end]), 1).float().repeat_interleave(group, 0) for x in (k, v)
            )
            logits = q[:, start:end].float() @ keys.transpose(1, 2) * scale
            if softcap is not None:
                logits = torch.tanh(logits / softcap) * softcap
            size = end - start
            later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
            logits[..., first:].masked_fill_(later, -torch.inf)
            weights = logits.softmax(-1)
            found.append(weights[:, tail.rows.start : tail.rows.stop, :first].mean(1))
            outs.append((weights @ values).transpose(0, 1).to(q.dtype))
            start = end
        if layer == self.last:
            raise LayersRead
        return torch.cat(outs)


def calibrated(
    model: LanguageModel,
    passages: Sequence[Passage],
    tail: Callable[[str], Tail],
    query: str,
    lead: str,
) -> tuple[Documents, Numbers]:
    """Attention of a question less that of a question without content (In-Context Re-ranking, arXiv 2410.02642).

    Args:
        model: that reads.
        passages: numbered in the prompt.
        tail: the frame of a question.
        query: the question.
        lead: stands in front of the passages.

    Returns:
        The documents, and [L, H, len(documents.ids)] differences.
    """
    documents = Documents.of(model, lead, passages, numbered=True)
    asked, nothing = attended(model, documents, [tail(query), tail("N/A")])
    return documents, asked - nothing


def without_outliers(documents: Documents, scores: Numbers) -> Numbers:
    """[T] scores in which tokens far below their passage's others count 0 (arXiv 2410.02642, section 3.2).

    Far is two standard deviations: punctuation and the like, which a question without content attends to most.
    """
    kept = np.zeros_like(scores)
    for start, end in documents.places:
        own = scores[start:end]
        kept[start:end] = np.where(own > own.mean() - 2 * own.std(), own, 0) if len(own) else own
    return kept
