"""GemFilter's token scores (arXiv 2409.17422): raw logits of the last prompt token, summed over heads, then pooled.

For the tokens t = 0 .. T - 1 of a prompt, in order::

    raw[t]    = sum_h q[h] . k[t, g(h)]                        no 1/sqrt(D), no softmax
    scores[t] = (raw[t-2] + raw[t-1] + raw[t] + raw[t+1] + raw[t+2]) / 5      raw is 0 outside 0 .. T - 1

The sum over the heads of a KV group is taken before the product: one product per KV head instead of one per head.
`gem_scores` takes the keys of one prompt, `gem_key_scores` those of many passages that were read before; the pooling
then ends at a passage's borders.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ctxshaper.data import deadline
from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, half_precision_reason, head_dim_reason, use_triton
from ctxshaper.kernels.key_ranges import KeyRanges


def gem_scores(q: Tensor, k: Tensor, *, backend: Backend = "auto") -> Tensor:
    """Score every token of a prompt by the raw logits of the last query row, pooled over five neighbours.

    Args:
        q: [R, H, D] queries after rotary embedding; the last row is used.
        k: [KV, T, D] keys; H a multiple of KV.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        [T] float32.

    Raises:
        InvalidInputError: shapes that do not fit together, or a kernel asked for by name that cannot take them.
    """
    if q.dim() != 3 or k.dim() != 3 or q.shape[0] < 1 or q.shape[2] != k.shape[2] or q.shape[1] % k.shape[0]:
        raise InvalidInputError(
            f"q is {list(q.shape)} and k {list(k.shape)}; needed are q [R, H, D] with R >= 1 and k [KV, T, D], H a "
            f"multiple of KV."
        )
    reason = half_precision_reason(q, k) or head_dim_reason(q.shape[2])
    if use_triton("gem_scores", backend, reason, q):
        from ctxshaper.kernels.triton import gem_scores as kernel

        return kernel.gem_scores(q, k)
    return reference(q, k)


def reference(q: Tensor, k: Tensor) -> Tensor:
    """Compute `gem_scores` in plain torch."""
    raw = torch.einsum("ktd,kd->t", k.float(), _grouped(q[-1], k.shape[0]))
    return _pool(raw)


def gem_key_scores(
    q: Tensor, slots: Sequence[int], keys: Tensor, scales: Tensor | None, ranges: KeyRanges, lengths: Sequence[int]
) -> Tensor:
    """Score the tokens of passages whose keys lie in an arena.

    Args:
        q: [H, D] the last row's queries after rotary embedding.
        slots: [KV] slots of the arena that hold the key heads, in their order; H a multiple of KV.
        keys: [S, C, D] arena of keys: int8, or a float type.
        scales: [S, C] float factors of int8 keys; None for keys of a float type.
        ranges: where the passages lie in the arena.
        lengths: tokens of each passage, in the order of the ranges.

    Returns:
        [sum of lengths] float32.

    Raises:
        InvalidInputError: shapes that do not fit together.
        DeadlineError: the current request's time is over.
    """
    if q.shape[0] % len(slots) or q.shape[1] != keys.shape[2] or sum(lengths) != ranges.tokens:
        raise InvalidInputError(
            f"q is {list(q.shape)}, keys {list(keys.shape)} with {len(slots)} slots, and {sum(lengths)} tokens for "
            f"ranges of {ranges.tokens}; needed are q [H, D], H a multiple of the slots, and as many tokens."
        )
    grouped = _grouped(q, len(slots))
    raw = torch.zeros(ranges.tokens, device=keys.device)
    for block in ranges.blocks:
        deadline.check()
        places = block.keys if isinstance(block.keys, slice) else block.keys.to(keys.device)
        for slot, row in zip(slots, grouped, strict=True):
            products = keys[slot, places].float() @ row
            raw[block.tokens] += products if scales is None else products * scales[slot, places].float()
    # Two zeros between passages are what lies outside of a passage for its neighbours.
    owner = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    at = (torch.arange(ranges.tokens) + 2 * owner).to(keys.device)
    spread = torch.zeros(ranges.tokens + 2 * len(lengths), device=keys.device)
    spread[at] = raw
    return _pool(spread)[at]


def _grouped(q: Tensor, kv_heads: int) -> Tensor:
    """[KV, D] float32 sums of the queries [H, D] over the heads that share a key head."""
    return q.float().view(kv_heads, -1, q.shape[-1]).sum(1)


def _pool(raw: Tensor) -> Tensor:
    if raw.numel() == 0:
        return raw
    return functional.avg_pool1d(raw[None, None], kernel_size=5, stride=1, padding=2)[0, 0]
