"""Triton kernel of `ctxshaper.kernels.page_write`: keys and values in one launch, whatever their strides."""

import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.tuning import next_power_of_2


@triton.jit
def _write(
    k_pages_ptr,  # [N, KV, S, D]
    v_pages_ptr,  # [N, KV, S, D]
    places_ptr,  # [T] int64
    k_ptr,  # [KV, T, D]
    v_ptr,  # [KV, T, D]
    tokens,
    slots,
    k_head,
    k_token,
    k_dim,
    v_head,
    v_token,
    v_dim,
    KV: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    head = tl.program_id(0)
    token = tl.program_id(1) * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.arange(0, BLOCK_D)
    mask = (token < tokens)[:, None] & (d < D)[None, :]
    place = tl.load(places_ptr + token, mask=token < tokens, other=0)
    row = (place // slots * KV + head) * slots + place % slots
    to = row[:, None] * D + d[None, :]
    at = token.to(tl.int64)[:, None]
    k = tl.load(k_ptr + head.to(tl.int64) * k_head + at * k_token + d[None, :] * k_dim, mask=mask)
    v = tl.load(v_ptr + head.to(tl.int64) * v_head + at * v_token + d[None, :] * v_dim, mask=mask)
    tl.store(k_pages_ptr + to, k.to(k_pages_ptr.dtype.element_ty), mask=mask)
    tl.store(v_pages_ptr + to, v.to(v_pages_ptr.dtype.element_ty), mask=mask)


def page_write(k_pages: Tensor, v_pages: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> None:
    """Launch the kernel; arguments as in `ctxshaper.kernels.page_write`, checked there."""
    kv_heads, tokens, dim = keys.shape
    if tokens:
        _write[(kv_heads, triton.cdiv(tokens, 32))](
            k_pages, v_pages, places, keys, values, tokens, k_pages.shape[2], *keys.stride(), *values.stride(),
            KV=kv_heads, D=dim, BLOCK_D=next_power_of_2(dim), BLOCK_T=32, num_warps=4,
        )  # fmt: skip
