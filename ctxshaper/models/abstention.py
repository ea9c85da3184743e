"""How sure a language model is that a passage leaves the question unanswered: the distracting effect of a passage."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.models.chat import user_turn
from ctxshaper.models.decoder import pick_device, pick_dtype
from ctxshaper.models.loading import load_lm, load_tokenizer, resolve_lm
from ctxshaper.text.tokenization import Encoder

MARKER = "NO-RESPONSE"
INSTRUCTION = (
    "Answer the question from the document. Give the answer alone, without any introduction. If the document does not "
    f"hold the answer, reply {MARKER}. Do not rely on anything that you know from elsewhere."
)
# Tokens of one forward pass, padding included, and of one window of a long passage.
_BATCH = {"cpu": 2048, "cuda": 32768}
_WINDOW = 2048

# Questions, and for each a passage that answers it; the passages of the other questions are unrelated to it.
_CHECKS = (
    ("In which year was the Halvorsen bridge opened?", "The Halvorsen bridge was opened in 1931 after four years."),
    ("Who directs the choir of Lindow?", "Since last spring the choir of Lindow has been directed by Marta Okafor."),
    ("What does the Sable ferry carry?", "The Sable ferry carries timber and, in summer, a few dozen bicycles."),
    ("How deep is lake Orren?", "Lake Orren is 84 metres deep at its northern end and freezes in January."),
    ("Which metal is mined at Tarn Hill?", "At Tarn Hill miners dig for zinc; the pit employs 200 people."),
    ("Where was the painter Ilse Brandt born?", "Ilse Brandt, the painter, was born in Trieste and lived in Ghent."),
)


@dataclass(frozen=True, slots=True)
class InstructionCheck:
    """Whether a model follows the instruction to abstain.

    Attributes:
        unrelated: mean distracting effect of passages that have nothing to do with the question; near 0 is right.
        answering: mean distracting effect of passages that answer it; near 1 is right.
        ordered: how often an answering passage has the higher effect of the two, per question; 0.5 is chance.
    """

    unrelated: float
    answering: float
    ordered: float

    @property
    def follows(self) -> bool:
        """Whether unrelated passages let the model abstain more often than not: only then bands of DE mean anything."""
        return self.unrelated < 0.5


class Abstention:
    """A local language model's probability of abstaining, one forward pass per passage. Thread-safe.

    The distracting effect of a passage p for a query q is `DE = 1 - P(abstain | q, p)` (Amiraz et al., arXiv
    2505.06914, section 3): the prompt holds one passage, the question and, as the answer, an abstention marker; the
    probability is that of the marker's first token at the position before it. Nothing is generated. The paper means
    it for ranking passages of one query.

    The prompt stands in the model's chat template. Passages are data: special tokens spelled out in them are plain
    characters. What all prompts share is computed once. Of a passage longer than 2,048 tokens, or than the model's
    range, overlapping windows are read, and the most distracting one counts.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32".

    Raises:
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(self, model: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> None:
        self.source = resolve_lm(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self._lock = threading.RLock()

    @cached_property
    def _tokenizer(self) -> Any:
        with self._lock:
            return load_tokenizer(self.source)

    @cached_property
    def encoder(self) -> Encoder:
        """The model's tokenizer, safe to share."""
        with self._lock:
            return Encoder(self._tokenizer)

    @cached_property
    def model(self) -> Any:
        """The language model with its head, loaded at first use."""
        with self._lock:
            return load_lm(self.source, dtype=self.dtype, head=True).to(self.device)

    @cached_property
    def check(self) -> InstructionCheck:
        """Does the model abstain where it should? Measured once, on passages about made-up things."""
        effects = np.array([self.distracting(question, [p for _, p in _CHECKS]) for question, _ in _CHECKS])
        own = np.eye(len(_CHECKS), dtype=bool)
        right = effects[own][:, None] > effects
        return InstructionCheck(float(effects[~own].mean()), float(effects[own].mean()), float(right[~own].mean()))

    def distracting(self, query: str, passages: Sequence[Passage | str]) -> NDArray[np.float64]:
        """The distracting effect of each passage: `1 - P(abstain | query, passage)`.

        Args:
            query: the user's question.
            passages: what is kept of each is read, with its title in front.

        Returns:
            [number of passages] float64 in [0, 1].

        Raises:
            InvalidInputError: an empty query, or one that leaves no room for a passage.
            ModelError: the model cannot be loaded, has no usable chat template, or gives no numbers.
        """
        return np.asarray(-np.expm1(self.log_abstain(query, passages)))

    def log_abstain(self, query: str, passages: Sequence[Passage | str]) -> NDArray[np.float64]:
        """[number of passages] float64 natural logarithm of P(abstain | query, passage); see `distracting`.

        The logarithm keeps passages apart where the probability is close to 0.
        """
        if not query.strip():
            raise InvalidInputError("the query is empty; pass the user's question")
        rows: list[list[int]] = []
        owners: list[int] = []
        for index, passage in enumerate(map(Passage.of, passages)):
            windows = self._prompts(query, passage)
            rows += windows
            owners += [index] * len(windows)
        result = np.zeros(len(passages))
        if rows:
            with self._lock:
                found = self._run(rows)
            if not np.isfinite(found).all():
                raise ModelError("the model gave probabilities that are not numbers; use dtype='float32'")
            # The least abstaining window is the most distracting one; log P is at most 0, where the search starts.
            np.minimum.at(result, np.array(owners), found)
        return result

    @cached_property
    def _frame(self) -> tuple[list[int], list[int], int]:
        """Tokens before the user's turn, tokens after it up to the marker, and the marker's first token."""
        before, after = user_turn(self._tokenizer, self.source.name)
        # The marker is tokenised with what stands before it, and found by its characters: where a space in front
        # belongs to its first token, the same token is the one that counts.
        ids, offsets = self.encoder.markup_offsets(after + MARKER)
        start = int(np.argmax(offsets[:, 1] > len(after)))
        opening = self.encoder.markup(before)
        bos = self.encoder.bos if opening[:1] != self.encoder.bos else []
        return bos + opening, ids[:start], ids[start]

    def _prompts(self, query: str, passage: Passage) -> list[list[int]]:
        """The prompt of a passage in tokens; of a long one, those of its windows."""
        before, after, _ = self._frame
        text = f"{passage.title}\n{passage.text}" if passage.title else passage.text
        head, tail = f"{INSTRUCTION}\n\nDocument:\n", f"\n\nQuestion: {query}"

        def prompt(piece: str) -> list[int]:
            # One string, so that tokens at the seams are those that the model would see anywhere else.
            return [*before, *self.encoder.data(head + piece + tail)[0], *after]

        limit = int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)
        room = min(_WINDOW, limit - len(prompt("")) - 2)
        if room < 16:
            raise InvalidInputError(
                f"the query leaves room for {room} tokens of a passage; {self.source.name} sees {limit} at once: "
                "shorten the query"
            )
        _, offsets = self.encoder.data(text)
        if len(offsets) <= room:
            return [prompt(text)]
        step = room - room // 8
        starts = range(0, len(offsets) - room + step, step)
        ends = [min(len(offsets), start + room) - 1 for start in starts]
        return [prompt(text[offsets[a, 0] : offsets[b, 1]]) for a, b in zip(starts, ends, strict=True)]

    @torch.inference_mode()
    def _run(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """[len(rows)] log P of the marker's first token behind each row."""
        from transformers import DynamicCache

        shared = _common_prefix(rows)
        prefix = torch.tensor([rows[0][:shared]], device=self.device)
        kept = self.model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        layers = [(layer.keys, layer.values) for layer in kept.layers]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        result = np.zeros(len(rows))
        while order:
            batch = [order.pop()]
            longest = len(rows[batch[0]]) - shared
            while order and (len(batch) + 1) * longest <= _BATCH.get(self.device.type, 2048):
                batch.append(order.pop())
            cache = DynamicCache()
            for index, (keys, values) in enumerate(layers):
                cache.update(keys.expand(len(batch), -1, -1, -1), values.expand(len(batch), -1, -1, -1), index)
            # Padded at the end, where no row that is read can look: attention is causal.
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            for place, index in enumerate(batch):
                own = torch.tensor(rows[index][shared:])
                ids[place, : len(own)] = own
            last = torch.tensor([len(rows[i]) - shared - 1 for i in batch], device=self.device)
            logits = self._last_logits(ids.to(self.device), cache, last)
            result[batch] = torch.log_softmax(logits.float(), -1)[:, self._frame[2]].double().cpu().numpy()
        return result

    def _last_logits(self, ids: torch.Tensor, cache: Any, last: torch.Tensor) -> torch.Tensor:
        """[B, vocabulary] logits at one place of each row: only these few positions go through the large head."""
        kept, where = torch.unique(last, return_inverse=True)
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=kept).logits
        found: torch.Tensor = logits[torch.arange(len(ids), device=ids.device), where]
        return found


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share; at least one token of each row is left over."""
    shortest = min(map(len, rows)) - 1
    first = rows[0]
    return next((i for i in range(shortest) if any(row[i] != first[i] for row in rows)), shortest)
