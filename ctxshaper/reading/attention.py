"""The way into a model's attention: one function registered with transformers, steered by an object per call.

A model that runs with this attention hands the object (`AttentionCall`) the rotated queries, keys and values of each
layer; nothing of the model is patched, and a call leaves nothing behind in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ctxshaper.errors import UnsupportedModelError
from ctxshaper.kernels import gem_scores, passage_attention, query_attention
from ctxshaper.reading.memory import Held

NAME = "ctxshaper"
KEYWORD = "ctxshaper_call"


class LayersRead(Exception):  # noqa: N818  # a signal, not an error
    """Raised inside the last layer that is needed: what follows in the model would be thrown away."""


class AttentionCall(Protocol):
    """What stands in for a model's attention during one forward pass."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """Attention output [T, H, D] from q [H, T, D] and k, v [KV, T, D] of one layer, after rotary."""
        ...


def install() -> None:
    """Make the attention known to transformers under `NAME`. Repeating it changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _forward)
    # Without a mask function of the same name transformers would build its own masks, or none with padding ignored.
    # Nothing here is padded: who sees whom is the call's own business.
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: None, **options: Any
) -> tuple[Tensor, None]:
    call: AttentionCall | None = options.get(KEYWORD)
    if call is None:
        raise UnsupportedModelError(
            "this model does not pass its keyword arguments on to its attention, so it cannot be read; "
            "use a Llama, Qwen, Mistral, Phi-3 or Gemma type of decoder"
        )
    if options.get("s_aux") is not None:
        raise UnsupportedModelError("attention with learned sinks is not read; use a model without them")
    out = call.attend(module.layer_idx, query[0], key[0], value[0], options["scaling"], options.get("softcap"))
    return out[None], None


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


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Ordinary causal attention of one sequence, [T, H, D]."""
    whole = torch.tensor([0, q.shape[1]], dtype=torch.int32, device=q.device)
    return passage_attention(q, k, v, whole, scale=scale, softcap=softcap)
