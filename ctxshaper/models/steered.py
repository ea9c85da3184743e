"""The way into the attention of a model that writes: one function registered with transformers.

A model that runs with this attention asks the steering of the current call, layer by layer, what becomes of its
queries, keys and weights. Nothing of transformers is patched; the model is a copy of the modules over the same weights,
so whoever else uses the loaded model is not concerned; and a call leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ctxshaper.errors import UnsupportedModelError

NAME = "ctxshaper_steered"


@dataclass
class Batch:
    """The rows of one steered batch, padded on the left.

    Attributes:
        marked: [B, W] which tokens of the prompts are marked; padding is not.
        starts: [B] how many columns of padding each row begins with.
        ends: [B] the column behind each prompt: what follows was written, or is a continuation.
        columns: how many columns were read so far, by this pass and those before it.
    """

    marked: Tensor
    starts: Tensor
    ends: Tensor
    columns: int = 0

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[bool], int]], device: torch.device) -> Batch:
        """The batch of rows.

        Args:
            rows: of each, which of its prompt's tokens are marked, and how many tokens follow the prompt.
            device: of the model.
        """
        width = max(len(marks) + after for marks, after in rows)
        starts = [width - len(marks) - after for marks, after in rows]
        marked = torch.zeros(len(rows), width, dtype=torch.bool)
        for row, (start, (marks, _)) in enumerate(zip(starts, rows, strict=True)):
            marked[row, start : start + len(marks)] = torch.tensor(list(marks), dtype=torch.bool)
        ends = [width - after for _, after in rows]
        return cls(marked.to(device), torch.tensor(starts, device=device), torch.tensor(ends, device=device))

    def repeated(self, times: int) -> Batch:
        """So many copies of all rows, one behind the other."""
        return Batch(self.marked.repeat(times, 1), self.starts.repeat(times), self.ends.repeat(times), self.columns)


class Steering(Protocol):
    """What changes a model's attention while it writes.

    Attributes:
        copies: so many copies of each row are read, and their distributions mixed.
    """

    copies: int

    def attend(
        self, batch: Batch, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> Tensor | None:
        """[B, Q, H, D] attention output of one layer, or None where the layer is left as it is.

        Args:
            batch: the rows.
            module: the layer's attention.
            q: [B, H, Q, D] queries, after rotary.
            k: [B, KV, K, D] keys, after rotary.
            v: [B, KV, K, D] values.
            mask: [B, 1, Q, K] bool, who sees whom; None where attention is causal and nothing padded.
            options: of the attention: `scaling`, `softcap`.
        """
        ...

    def mixed(self, logprobs: Tensor) -> Tensor:
        """[..., V] natural log-probabilities of the mixture of [copies, ..., V]."""
        ...


_CURRENT: ContextVar[tuple[Steering, Batch] | None] = ContextVar("ctxshaper_steering", default=None)


@contextmanager
def steering_by(steering: Steering, batch: Batch) -> Iterator[None]:
    """What steers the passes of this thread meanwhile."""
    token = _CURRENT.set((steering, batch))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def install() -> None:
    """Make the attention known to transformers under `NAME`. Repeating it changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _forward(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    current = _CURRENT.get()
    if current is None:
        raise UnsupportedModelError("a steered model runs within `steering_by` only; call the model itself")
    if options.get("s_aux") is not None:
        raise UnsupportedModelError("attention with learned sinks is not steered; use a model without them")
    steering, batch = current
    if module.layer_idx == 0:
        batch.columns += query.shape[2]
    out = steering.attend(batch, module, query, key, value, attention_mask, options)
    if out is not None:
        return out, None
    # As transformers would by default, to the bit.
    return sdpa_attention_forward(module, query, key, value, attention_mask, **options)  # type: ignore[no-any-return]
