"""The way into a model's attention: one function registered with transformers, steered by an object per call.

A model that runs with this attention hands the object (`AttentionCall`) the rotated queries, keys and values of each
layer; nothing of the model is patched, and a call leaves nothing behind in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812  # the name that everybody uses
from torch import Tensor

from ctxshaper.errors import UnsupportedModelError
from ctxshaper.kernels import gem_scores, query_attention

NAME = "ctxshaper"
KEYWORD = "ctxshaper_call"


class LayersRead(Exception):  # noqa: N818  # a signal, not an error
    """Raised inside the last layer that is needed: what follows in the model would be thrown away."""


class AttentionCall(Protocol):
    """What stands in for a model's attention during one forward pass."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """Attention output [1, H, T, D] from q [1, H, T, D] and k, v [1, KV, T, D] of one layer, after rotary."""
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
    out = call.attend(module.layer_idx, query, key, value, options["scaling"], options.get("softcap"))
    return out.transpose(1, 2), None


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Attention of the last rows of a sequence over all of it: row i of n sees the first T - n + i + 1 keys.

    Args:
        q: [1, H, n, D].
        k: [1, KV, T, D], T >= n.
        v: [1, KV, T, D].
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.

    Returns:
        [1, H, n, D].
    """
    rows, total = q.shape[2], k.shape[2]
    if softcap is None:
        if rows == total:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        visible = torch.ones(rows, total, dtype=torch.bool, device=q.device).tril(total - rows)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale, enable_gqa=True)
    visible = torch.ones(rows, total, dtype=torch.bool, device=q.device).tril(total - rows)
    group = q.shape[1] // k.shape[1]
    logits = (q.float() @ k.float().repeat_interleave(group, 1).transpose(2, 3)) * scale
    logits = (logits / softcap).tanh() * softcap
    weights = logits.masked_fill(~visible, float("-inf")).softmax(-1)
    return (weights @ v.float().repeat_interleave(group, 1)).to(q.dtype)


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
        self.keys.append(k[0])
        if layer == self.layers - 1:
            raise LayersRead
        self.values.append(v[0])
        out = torch.empty_like(q)
        start = 0
        for length in self.lengths:
            rows = slice(start, start + length)
            own_k, own_v = k[:, :, rows], v[:, :, rows]
            if self.prefix:
                before_k, before_v = self.prefix[layer]
                own_k = torch.cat([before_k[None], own_k], dim=2)
                own_v = torch.cat([before_v[None], own_v], dim=2)
            out[:, :, rows] = causal_attention(q[:, :, rows], own_k, own_v, scale, softcap)
            start += length
        return out


@dataclass
class AskMemories:
    """Runs a query alone; its rows attend to all memories at once.

    Attributes:
        keys: [L, KV, T, D], prefix first.
        values: [L - 1, KV, T, D].
        weights: by layer, [R, H] float32 weights of the attention mass; layers without heads that count are absent.
        gem_layer: the layer whose raw logits of the last row are wanted, or None.
        mass: [T] float32; filled by the reading.
        gem: [T] float32 unpooled, or None; filled by the reading.
    """

    keys: Tensor
    values: Tensor
    weights: dict[int, Tensor]
    gem_layer: int | None = None
    mass: Tensor | None = None
    gem: Tensor | None = None

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        last = layer == self.keys.shape[0] - 1
        rows = q[0].transpose(0, 1)
        if layer == self.gem_layer:
            self.gem = gem_scores(rows[-1:], self.keys[layer], pool=1)
        tokens = self.keys.shape[2]
        page = torch.zeros(1, dtype=torch.int32, device=q.device)
        # The last layer holds no values; its keys stand in, and nothing reads them.
        values = self.keys[layer] if last else self.values[layer]
        out, _, mass = query_attention(
            rows,
            self.keys[layer][None],
            values[None],
            page,
            torch.full_like(page, tokens),
            k[0].transpose(0, 1),
            v[0].transpose(0, 1),
            scale=scale,
            softcap=softcap,
            mass_weights=self.weights.get(layer),
            need_output=not last,
        )
        if mass is not None:
            self.mass = mass if self.mass is None else self.mass + mass
        if last:
            raise LayersRead
        assert out is not None  # noqa: S101  # asked for above
        return out.transpose(0, 1)[None]


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
            self.gem = gem_scores(q[0, :, -1:].transpose(0, 1), k[0])
            raise LayersRead
        return causal_attention(q, k, v, scale, softcap)
