"""The way into a model's attention: one function registered with transformers, steered by an object per call.

A model that runs with this attention hands the object (`AttentionCall`) the rotated queries, keys and values of each
layer; nothing of the model is patched, and a call leaves nothing behind in it.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from ctxshaper.data import deadline
from ctxshaper.errors import UnsupportedModelError
from ctxshaper.kernels import passage_attention

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
    deadline.check()
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


def causal(q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Ordinary causal attention of one sequence, [T, H, D]."""
    whole = torch.tensor([0, q.shape[1]], dtype=torch.int32, device=q.device)
    return passage_attention(q, k, v, whole, scale=scale, softcap=softcap)
