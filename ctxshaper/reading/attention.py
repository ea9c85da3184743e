"""What stands in for a model's attention while passages, queries and whole prompts are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ctxshaper.kernels import gem_scores, passage_attention, query_attention
from ctxshaper.models.attention import LayersRead, causal
from ctxshaper.reading.memory import Held


@dataclass
class ReadPassages:
    """Reads passages laid end to end in one row, each by itself behind a shared prefix.

    Attributes:
        offsets: [N + 1] int32 where each passage starts.
        last: the last layer that is read; it gives keys only.
        keep: takes the keys and values [KV, T, D] of each layer; None for the last layer's values.
        prefix: keys and values [KV, P, D] of the prefix, by layer; empty while the prefix itself is read.
    """

    offsets: Tensor
    last: int
    keep: Callable[[int, Tensor, Tensor | None], None]
    prefix: Sequence[tuple[Tensor, Tensor]] = ()

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        if layer == self.last:
            self.keep(layer, k, None)
            raise LayersRead
        self.keep(layer, k, v)
        prefix = self.prefix[layer] if self.prefix else ()
        return passage_attention(q, k, v, self.offsets, *prefix, scale=scale, softcap=softcap)


@dataclass
class AskMemories:
    """Runs a query alone; its rows attend to all memories at once.

    Attributes:
        held: the memories.
        weights: by layer, [R, H] float32 weights of the attention mass; layers without heads that count are absent.
        gem_layer: the layer at which GemFilter's scores of each memory are wanted, or None.
        finite: the pages hold no NaN and no infinity, not even in slots without a token.
        mass: [P * S] float32; filled by the reading.
        gem: by memory, [n] float32, pooled; filled by the reading.
    """

    held: Held
    weights: dict[int, Tensor]
    gem_layer: int | None = None
    finite: bool = False
    mass: Tensor | None = None
    gem: dict[bytes, Tensor] = field(default_factory=dict)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        last = layer == len(self.held.keys) - 1
        rows = q.transpose(0, 1)
        if layer == self.gem_layer:
            slots = self.held.keys[layer][self.held.page_ids.long()].transpose(0, 1).flatten(1, 2)  # [KV, P * S, D]
            self.gem = {key: gem_scores(rows[-1:], slots[:, place]) for key, place in self.held.places.items()}
        out, _, mass = query_attention(
            rows,
            self.held.keys[layer],
            self.held.values[layer],
            self.held.page_ids,
            self.held.page_lengths,
            k.transpose(0, 1),
            v.transpose(0, 1),
            scale=scale,
            softcap=softcap,
            mass_weights=self.weights.get(layer),
            need_output=not last,
            finite=self.finite,
        )
        if mass is not None:
            self.mass = mass if self.mass is None else self.mass + mass
        if last or out is None:
            raise LayersRead
        return out


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
