"""GemFilter's token scores (arXiv 2409.17422): raw logits of the last prompt token, summed over heads, then pooled.

For the valid tokens t = 0 .. n - 1 of a request, in order::

    raw[t]    = sum_h q[h] . k[t, g(h)]                        no 1/sqrt(D), no softmax
    scores[t] = (raw[t-2] + raw[t-1] + raw[t] + raw[t+1] + raw[t+2]) / 5      raw is 0 outside 0 .. n - 1

The sum over the heads of a KV group is taken before the product: one product per KV head instead of one per head.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, half_precision_reason, head_dim_reason, use_triton


def gem_scores(
    q: Tensor,
    k: Tensor,
    page_ids: Tensor | None = None,
    page_lengths: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Score every token by the raw logits of the last query row, pooled over five neighbours.

    Args:
        q: [R, H, D] queries after rotary embedding; the last row is used.
        k: [KV, T, D] keys, or [N, KV, S, D] pages of S slots when `page_ids` is given.
        page_ids: [P] int32 or int64, the pages in reading order, or None for dense keys.
        page_lengths: [P] valid slots of each page; given together with `page_ids`. Neighbours in the pooling are
            neighbouring valid tokens, across pages.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        [T] or, for pages, [P * S] float32; zero in invalid slots.

    Raises:
        InvalidInputError: shapes that do not fit together, or a kernel asked for by name that cannot take them.
    """
    paged = page_ids is not None
    if k.dim() != (4 if paged else 3) or q.dim() != 3 or (page_ids is None) != (page_lengths is None):
        raise InvalidInputError(
            f"q is {list(q.shape)} and k {list(k.shape)}; needed are q [R, H, D] and k [KV, T, D], or k [N, KV, S, D] "
            f"with both page_ids and page_lengths."
        )
    pages = k if paged else k[None]
    if q.shape[0] < 1 or q.shape[2] != k.shape[-1] or q.shape[1] % pages.shape[1]:
        raise InvalidInputError(
            f"q is {list(q.shape)} and k has {pages.shape[1]} KV heads of {k.shape[-1]}; needed are R >= 1, the same D "
            f"and H a multiple of KV."
        )
    reason = half_precision_reason(q, k) or head_dim_reason(q.shape[2])
    if use_triton("gem_scores", backend, reason, q):
        from ctxshaper.kernels.triton import gem_scores as kernel

        return kernel.gem_scores(q, pages, page_ids, page_lengths)
    return reference(q, pages, page_ids, page_lengths)


def reference(q: Tensor, pages: Tensor, page_ids: Tensor | None, page_lengths: Tensor | None) -> Tensor:
    """Compute `gem_scores` in plain torch; dense keys are one page without ids."""
    kv_heads, slots, dim = pages.shape[1:]
    grouped = q[-1].float().view(kv_heads, -1, dim).sum(1)  # [KV, D]
    if page_ids is None or page_lengths is None:
        raw = torch.einsum("ktd,kd->t", pages[0].float(), grouped)
        return _pool(raw)
    raw = torch.einsum("pktd,kd->pt", pages.index_select(0, page_ids.long()).float(), grouped)
    valid = torch.arange(slots, device=q.device) < page_lengths[:, None]
    scores = torch.zeros_like(raw)
    scores[valid] = _pool(raw[valid])
    return scores.flatten()


def _pool(raw: Tensor) -> Tensor:
    if raw.numel() == 0:
        return raw
    return functional.avg_pool1d(raw[None, None], kernel_size=5, stride=1, padding=2)[0, 0]
