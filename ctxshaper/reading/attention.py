"""The way into a model's attention: one function registered with transformers, steered by an object per call.

A model that runs with this attention hands the object (`AttentionCall`) the rotated queries, keys and values of each
layer; nothing of the model is patched, and a call leaves nothing behind in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

from ctxshaper.errors import UnsupportedModelError
from ctxshaper.kernels import gem_scores, passage_attention, query_attention

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
    """Reads passages laid end to end in one row, each by itself behind a shared prefix, and keeps keys and values.

    Attributes:
        lengths: tokens of each passage.
        layers: how many layers are read; the last gives keys only.
        prefix: keys and values [KV, P, D] of the prefix, by layer; empty while the prefix itself is read.
        keys: by layer, [KV, T, D]; filled by the reading.
        values: by layer but the last, [KV, T, D]; filled by the reading.
    """

    lengths: Sequence[int]
    layers: int
    prefix: Sequence[tuple[Tensor, Tensor]] = ()
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        self.keys.append(k)
        if layer == self.layers - 1:
            raise LayersRead
        self.values.append(v)
        prefix = self.prefix[layer] if self.prefix else ()
        return passage_attention(q, k, v, self.offsets(q.device), *prefix, scale=scale, softcap=softcap)

    def offsets(self, device: torch.device) -> Tensor:
        """[N + 1] int32 where each passage starts."""
        return torch.tensor([0, *accumulate(self.lengths)], dtype=torch.int32, device=device)


@dataclass
class AskMemories:
    """Runs a query alone; its rows attend to all memories at once.

    Attributes:
        keys: [L, KV, P + T, D], prefix first.
        values: [L - 1, KV, P + T, D].
        lengths: tokens of the prefix and of each memory.
        weights: by layer, [R, H] float32 weights of the attention mass; layers without heads that count are absent.
        gem_layer: the layer at which GemFilter's scores of each memory are wanted, or None.
        mass: [T] float32; filled by the reading.
        gem: [T] float32, pooled within each memory, or None; filled by the reading.
    """

    keys: Tensor
    values: Tensor
    lengths: Sequence[int]
    weights: dict[int, Tensor]
    gem_layer: int | None = None
    mass: Tensor | None = None
    gem: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        last = layer == self.keys.shape[0] - 1
        rows = q.transpose(0, 1)
        if layer == self.gem_layer:
            borders = pairwise(accumulate(self.lengths))
            self.gem = torch.cat([gem_scores(rows[-1:], self.keys[layer][:, a:b]) for a, b in borders])
        page = torch.zeros(1, dtype=torch.int32, device=q.device)
        # The last layer holds no values; its keys stand in, and nothing reads them.
        values = self.keys[layer] if last else self.values[layer]
        out, _, mass = query_attention(
            rows,
            self.keys[layer][None],
            values[None],
            page,
            torch.full_like(page, self.keys.shape[2]),
            k.transpose(0, 1),
            v.transpose(0, 1),
            scale=scale,
            softcap=softcap,
            mass_weights=self.weights.get(layer),
            need_output=not last,
        )
        if mass is not None:
            mass = mass[self.lengths[0] :]
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
