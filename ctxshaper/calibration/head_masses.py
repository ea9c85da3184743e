"""What every single head of a model attends to in each unit of text: what `calibrate` chooses heads by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.data import Passage, Span
from ctxshaper.errors import ModelError
from ctxshaper.models.attention import LayersRead
from ctxshaper.models.chat import user_turn
from ctxshaper.models.finding import ModelSource, resolve_lm
from ctxshaper.models.loading import load_config, load_tokenizer
from ctxshaper.reading.attention import ReadPassages
from ctxshaper.reading.profile import Head, HeadProfile
from ctxshaper.reading.reader import Reader
from ctxshaper.reading.reading import PassageReading

# A question without content: what attention falls on anyhow (In-Context Re-ranking, arXiv 2410.02642).
NOTHING = "N/A"
# Tokens that may draw attention for what they are and not for what they say.
KINDS = ("words", "punctuation", "first token")
_ROW = 2048  # tokens of passages that are read in one forward pass


@dataclass(frozen=True)
class UnitMass:
    """The attention that the units of one question's passages receive, by head.

    Attributes:
        asked: [U, K, L, H] float32 attention of the question's tokens (mean over these) to each unit, summed over its
            tokens of each of the `KINDS`.
        nothing: the same for a question without content.
        tokens: [U, K] tokens of each kind.
        owners: [U] the passage of each unit.
    """

    asked: NDArray[np.float32]
    nothing: NDArray[np.float32]
    tokens: NDArray[np.int64]
    owners: NDArray[np.int64]


@dataclass
class AskHeads:
    """Runs a query alone over remembered passages and adds up each head's attention by group of tokens.

    Attributes:
        keys: by layer, [KV, P + T, D], the prefix first.
        values: by layer but the last, [KV, P + T, D].
        rows: which of the query's rows are the question's own.
        groups: [P + T] the group of each remembered token.
        shares: [P + T] how much of each token counts: less than 1 where windows overlap.
        count: number of groups, G.
        mass: by layer, [G, H] float32, mean over the rows; filled by the reading.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    rows: Sequence[int]
    groups: Tensor
    shares: Tensor
    count: int
    mass: list[Tensor] = field(default_factory=list)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        heads, rows, dim = q.shape
        keys = torch.cat([self.keys[layer], k], 1).float()
        # Query heads of one key head lie next to each other.
        logits = (q.float().reshape(keys.shape[0], -1, dim) @ keys.transpose(1, 2) * scale).reshape(heads, rows, -1)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        known = keys.shape[1] - rows
        later = torch.ones(rows, keys.shape[1], dtype=torch.bool, device=q.device).triu(known + 1)
        weights = logits.masked_fill(later, float("-inf")).softmax(-1)
        received = weights[:, self.rows, :known].mean(1) * self.shares
        groups = torch.zeros(self.count, heads, device=q.device)
        self.mass.append(groups.index_add(0, self.groups, received.T.contiguous()))
        if layer == len(self.keys) - 1:
            raise LayersRead
        values = torch.cat([self.values[layer], v], 1).float()
        out = weights.reshape(keys.shape[0], -1, weights.shape[-1]) @ values
        return out.reshape(heads, rows, dim).transpose(0, 1).to(q.dtype)


class HeadReader:
    """All layers of a model, read as `Reader` reads: passages independently, the question behind them.

    Nothing is remembered between questions: each is read once.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32".

    Raises:
        ModelError: the model cannot be found or loaded.
    """

    def __init__(self, model: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> None:
        source = resolve_lm(model)
        config = load_config(source).get_text_config()
        self.layers, self.heads = int(config.num_hidden_layers), int(config.num_attention_heads)
        self.base = HeadProfile.shipped(source.name) or self._framed(source)
        # A reader of all layers: what `Reader` keeps to itself is used in this class only.
        everything = HeadProfile(
            source.name,
            (Head(self.layers - 1, 0),),
            self.layers - 1,
            prefix=self.base.prefix,
            before_query=self.base.before_query,
            after_query=self.base.after_query,
        )
        self._reader = Reader(model, profile=everything, device=device, dtype=dtype)
        self.name = source.name
        self._prefix = self._remember([self._reader.layout.prefix], first=True)

    def _framed(self, source: ModelSource) -> HeadProfile:
        name = source.name
        before, after = user_turn(load_tokenizer(source), name)
        plain = HeadProfile.automatic(name, self.layers, self.heads)
        return HeadProfile(name, plain.heads, plain.filter_layer, prefix=before + plain.prefix, after_query=after)

    def read(self, query: str, passages: Sequence[Passage], units: Sequence[Sequence[Span]]) -> UnitMass:
        """Read one question's passages once, and ask them the question and one without content.

        Args:
            query: the question.
            passages: whose `source` is read, with the title in front.
            units: by passage, sorted and disjoint.

        Raises:
            InvalidInputError: an empty query, or one that is too long.
            ModelError: the model gives attention that is not a number.
        """
        reader, kinds = self._reader, len(KINDS)
        encoded = [reader.layout.passage(passage) for passage in passages]
        total = sum(map(len, units))
        prefix = len(reader.layout.prefix)
        # The last group takes what is no unit: the prefix, headings, tokens between units.
        groups, shares = [np.full(prefix, total * kinds)], [np.ones(prefix)]
        tokens = np.zeros(total * kinds + 1, dtype=np.int64)
        first = 0
        for one, passage, spans in zip(encoded, passages, units, strict=True):
            unit = PassageReading(one.offsets, np.zeros(len(one.offsets), np.float32)).tokens_of(spans)
            group = np.where(unit < 0, total * kinds, (first + unit) * kinds + _kinds(passage.source, one.offsets))
            tokens += np.bincount(group, minlength=len(tokens))
            seen = np.zeros(len(group))
            for a, b in one.windows:
                seen[a:b] += 1
            for a, b in one.windows:
                groups += [np.full(one.heading, total * kinds), group[a:b]]
                shares += [np.ones(one.heading), 1 / seen[a:b]]
            first += len(spans)
        keys, values = self._remember([ids.tolist() for one in encoded for ids in one.ids])
        device = reader.decoder.device
        where = torch.tensor(np.concatenate(groups), device=device)
        share = torch.tensor(np.concatenate(shares), dtype=torch.float32, device=device)
        found = []
        for text in (query, NOTHING):
            ids, rows = reader.layout.query(text)
            call = AskHeads(keys, values, rows, where, share, total * kinds + 1)
            reader.decoder.run(ids, range(reader.layout.end, reader.layout.end + len(ids)), call)
            mass = torch.stack(call.mass, 1)[:-1].cpu().numpy()
            if not np.isfinite(mass).all():
                raise ModelError("the model gave attention that is not a number; use dtype='float32'")
            found.append(mass.reshape(total, kinds, self.layers, self.heads))
        owners = np.repeat(np.arange(len(units)), [len(spans) for spans in units])
        return UnitMass(found[0], found[1], tokens[:-1].reshape(total, kinds), owners)

    def _remember(self, texts: Sequence[Sequence[int]], *, first: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """Keys by layer and values by layer but the last, [KV, P + T, D], the prefix first."""
        decoder = self._reader.decoder
        before = ([], []) if first else self._prefix
        keys = [[k] for k in before[0]] or [list[Tensor]() for _ in range(decoder.layers)]
        values = [[v] for v in before[1]] or [list[Tensor]() for _ in range(decoder.layers - 1)]
        prefix = list(zip(before[0], [*before[1], *before[0][-1:]], strict=True))

        def keep(layer: int, k: Tensor, v: Tensor | None) -> None:
            keys[layer].append(k)
            if v is not None:
                values[layer].append(v)

        for batch in _batches(texts):
            ids = [token for one in batch for token in one]
            ends = 0 if first else self._reader.layout.end
            positions = [p for one in batch for p in (range(len(one)) if first else range(ends - len(one), ends))]
            offsets = torch.tensor([0, *accumulate(map(len, batch))], dtype=torch.int32, device=decoder.device)
            decoder.run(ids, positions, ReadPassages(offsets, decoder.layers - 1, keep, prefix))
        return [torch.cat(parts, 1) for parts in keys], [torch.cat(parts, 1) for parts in values]


def _batches(texts: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Texts in rows of about `_ROW` tokens."""
    sizes = list(accumulate(map(len, texts)))
    batches: dict[int, list[Sequence[int]]] = {}
    for text, size in zip(texts, sizes, strict=True):
        if len(text):
            batches.setdefault((size - 1) // _ROW, []).append(text)
    return list(batches.values())


def _kinds(source: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """[n] index into `KINDS` of each token."""
    kinds = np.array([0 if any(map(str.isalnum, source[a:b])) else 1 for a, b in offsets.tolist()], dtype=np.int64)
    kinds[:1] = 2
    return kinds
