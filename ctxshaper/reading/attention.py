"""What stands in for a model's attention while passages, queries and whole prompts are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctxshaper.kernels import gem_scores, passage_attention
from ctxshaper.models.attention import LayersRead, causal
from ctxshaper.reading.head_sets import Pair, Slot
from ctxshaper.reading.token_marks import TokenMarks

Prefix = Sequence[tuple[Tensor, Tensor]]


@dataclass
class ReadPassages:
    """Reads passages laid end to end in one row, each by itself behind a shared prefix.

    Attributes:
        offsets: [N + 1] int32 where each passage starts.
        last: the last layer that is read, up to its keys and values.
        keep: takes the keys and values [KV, T, D] of each layer.
        prefix: keys and values [KV, P, D] of the prefix, by layer; empty while the prefix itself is read.
    """

    offsets: Tensor
    last: int
    keep: Callable[[int, Tensor, Tensor], None]
    prefix: Prefix = ()

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        self.keep(layer, k, v)
        if layer == self.last:
            raise LayersRead
        prefix = self.prefix[layer] if self.prefix else ()
        return passage_attention(q, k, v, self.offsets, *prefix, scale=scale, softcap=softcap)


@dataclass
class KeepSlots:
    """Of all keys that `ReadPassages` hands out, keeps those that will be looked at.

    Attributes:
        slots: the (layer, key head) to keep, sorted.
        marks: adds up the injection probe's scores, or None.
        kept: by slot, [T, D]; filled by the reading.
    """

    slots: Sequence[Slot]
    marks: TokenMarks | None = None
    kept: list[Tensor] = field(default_factory=list)

    def __call__(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Take the keys of one layer; of its values only what the probe makes of them stays."""
        if self.marks is not None:
            self.marks.add(layer, values)
        # A copy, so that the keys of the other heads are freed.
        self.kept += [keys[head].clone() for at, head in self.slots if at == layer]

    @property
    def keys(self) -> Tensor:
        """[slots, T, D]."""
        return torch.stack(self.kept)


@dataclass
class ReadQueries:
    """Reads queries laid end to end in one row, each by itself behind the prefix, and keeps what scoring heads ask.

    Attributes:
        offsets: [N + 1] int32 where each query starts.
        pairs: the heads that count, sorted.
        prefix: keys and values [KV, P, D] of the prefix, by layer.
        rows: by pair, [T, D] queries after rotary embedding; filled by the reading.
        rest: by pair, [T] float32 log-sum-exp over the prefix and the query's own tokens up to each; filled likewise.
        on_prefix: by pair, [T] float32 log-sum-exp over the prefix alone; filled likewise.
        scale: factor of the logits; filled likewise.
        softcap: soft cap of the logits, or None; filled likewise.
    """

    offsets: Tensor
    pairs: Sequence[Pair]
    prefix: Prefix
    rows: list[Tensor] = field(default_factory=list)
    rest: list[Tensor] = field(default_factory=list)
    on_prefix: list[Tensor] = field(default_factory=list)
    scale: float = 1.0
    softcap: float | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        self.scale, self.softcap = scale, softcap
        prefix_k, prefix_v = self.prefix[layer]
        own = [pair for pair in self.pairs if pair.layer == layer]
        if own:
            unseen = self._unseen(q.shape[1])
        for pair in own:
            row = q[pair.head]
            past = self._logits(row, prefix_k[pair.kv_head]).logsumexp(1)
            present = self._logits(row, k[pair.kv_head]).masked_fill_(unseen, -torch.inf).logsumexp(1)
            self.rows.append(row.clone())
            self.rest.append(torch.logaddexp(past, present))
            self.on_prefix.append(past)
        if layer == self.pairs[-1].layer:
            raise LayersRead
        return passage_attention(q, k, v, self.offsets, prefix_k, prefix_v, scale=scale, softcap=softcap)

    def _logits(self, rows: Tensor, keys: Tensor) -> Tensor:
        logits = (rows.float() @ keys.float().T).mul_(self.scale)
        return logits if self.softcap is None else logits.div_(self.softcap).tanh_().mul_(self.softcap)

    def _unseen(self, tokens: int) -> Tensor:
        """[T, T] True where a row does not see a token: a later one, or one of another query."""
        place = torch.arange(tokens, dtype=torch.int32, device=self.offsets.device)
        query = torch.searchsorted(self.offsets, place, right=True)
        return (place[:, None] < place) | (query[:, None] != query)


@dataclass
class ReadPrompt:
    """Reads a whole prompt causally, as GemFilter does, up to its filter layer.

    Attributes:
        layer: the filter layer, counted from 0.
        gem: [T] float32 raw scores, pooled over 5 tokens; filled by the reading.
    """

    layer: int
    gem: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        if layer == self.layer:
            self.gem = gem_scores(q[:, -1:].transpose(0, 1), k)
            raise LayersRead
        return causal(q, k, v, scale, softcap)
