"""Prefill of many passages at once: each attends to itself, causally, and to one short prefix that all share.

Passages lie end to end in one sequence, without padding. For token t of a passage that starts at c::

    out[t, h] = softmax over {prefix tokens} and {c .. t} of (scale * q[t, h] . k[., g(h)]) @ v[., g(h)]

Tokens after the last offset of `cu_seqlens` (padding of a chunk, if any) read as one more passage.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, half_precision_reason, head_dim_reason, use_triton


def passage_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    prefix_k: Tensor | None = None,
    prefix_v: Tensor | None = None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Attend within each passage, causally, and to the shared prefix.

    Args:
        q: [H, T, D] queries of all passages, any strides but a contiguous last dimension.
        k: [KV, T, D] keys; H a multiple of KV.
        v: [KV, T, D] values.
        cu_seqlens: [N + 1] int32 on q's device, offsets of the passages in the sequence, from 0, not decreasing.
        prefix_k: [KV, C, D] keys that every token sees, or None.
        prefix_v: [KV, C, D] values of the prefix, given together with `prefix_k`.
        scale: factor of the logits; None means 1 / sqrt(D).
        softcap: soft cap of the logits, or None.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        [T, H, D] in q's type, contiguous.

    Raises:
        InvalidInputError: shapes that do not fit together, or a kernel asked for by name that cannot take them.
    """
    if q.dim() != 3 or k.shape != v.shape or k.shape[1:] != q.shape[1:] or q.shape[0] % k.shape[0]:
        raise InvalidInputError(
            f"q is {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}; needed are [H, T, D] and twice [KV, T, D], H "
            f"a multiple of KV."
        )
    if cu_seqlens.dim() != 1 or cu_seqlens.numel() < 1:
        raise InvalidInputError(f"cu_seqlens is {list(cu_seqlens.shape)}; needed is [N + 1].")
    if (prefix_k is None) != (prefix_v is None):
        raise InvalidInputError("prefix_k and prefix_v must be given together.")
    if prefix_k is None or prefix_v is None:
        prefix_k, prefix_v = k[:, :0], v[:, :0]
    if prefix_k.shape != prefix_v.shape or prefix_k.shape[::2] != k.shape[::2]:
        raise InvalidInputError(
            f"prefix_k is {list(prefix_k.shape)} and prefix_v {list(prefix_v.shape)}; needed is [{k.shape[0]}, C, "
            f"{k.shape[2]}]."
        )
    scale = 1.0 / math.sqrt(q.shape[2]) if scale is None else scale
    reason = half_precision_reason(q, k, v, prefix_k, prefix_v) or head_dim_reason(q.shape[2])
    if use_triton("passage_attention", backend, reason, q):
        from ctxshaper.kernels.triton import passage_attention as kernel

        return kernel.passage_attention(q, k, v, cu_seqlens, prefix_k, prefix_v, scale, softcap)
    return reference(q, k, v, cu_seqlens, prefix_k, prefix_v, scale, softcap)


def reference(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Compute `passage_attention` in plain torch, one passage at a time."""
    heads, tokens, dim = q.shape
    shared = prefix_k.shape[1]
    out = q.new_empty(tokens, heads, dim)
    offsets = [*cu_seqlens.tolist(), tokens]
    for start, end in pairwise(offsets):
        if end <= start:
            continue
        own = slice(start, end)
        keys = torch.cat((prefix_k, k[:, own]), 1) if shared else k[:, own]
        values = torch.cat((prefix_v, v[:, own]), 1) if shared else v[:, own]
        seen = torch.ones(end - start, shared + end - start, dtype=torch.bool, device=q.device).tril(shared)
        attended = _attention(q[:, own], keys, values, seen, scale, softcap)
        out[own] = attended.transpose(0, 1)
    return out


def _attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, softcap: float | None) -> Tensor:
    if softcap is None:
        return functional.scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=seen, scale=scale, enable_gqa=True
        )[0]
    group = q.shape[0] // k.shape[0]
    wide_k, wide_v = (x.float().repeat_interleave(group, 0) for x in (k, v))
    logits = torch.tanh(q.float() @ wide_k.transpose(1, 2) * (scale / softcap)) * softcap
    weights = logits.masked_fill(~seen, -math.inf).softmax(-1)
    return (weights @ wide_v).to(q.dtype)
