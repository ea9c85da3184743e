"""Triton kernels of `ctxshaper.kernels.gem_scores`: raw scores in one pass over the keys, then the pooling."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.tuning import Launch, choose, next_power_of_2, tiled


@triton.jit
def _raw(
    q_ptr,  # [H, D], the last row
    k_ptr,  # [KV, T, D]
    k_tiles,  # descriptor of k as [KV * T, D], or k itself
    raw_ptr,  # [T] float32
    q_head,
    k_head,
    k_token,
    tokens,
    KV: tl.constexpr,
    G: tl.constexpr,
    BLOCK_G: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BULK: tl.constexpr,
):
    start = tl.program_id(0) * BLOCK_N
    token = start + tl.arange(0, BLOCK_N)
    valid = token < tokens
    d = tl.arange(0, BLOCK_D)
    g = tl.arange(0, BLOCK_G)
    acc = tl.zeros([BLOCK_N, BLOCK_G], tl.float32)
    # The matrix unit works on 16 columns at least, so the heads of a group cost nothing beside their sum: one product
    # per KV head either way, and the queries enter it unrounded.
    for head in range(KV):
        q_at = (head * G + g)[None, :] * q_head + d[:, None]
        q = tl.load(q_ptr + q_at, mask=(g < G)[None, :] & (d < D)[:, None], other=0.0)
        if BULK:
            k = k_tiles.load([head * tokens + start, 0])
        else:
            k_at = tl.cast(head, tl.int64) * k_head + token.to(tl.int64)[:, None] * k_token + d[None, :]
            k = tl.load(k_ptr + k_at, mask=valid[:, None] & (d < D)[None, :], other=0.0)
        acc = tl.dot(k, q, acc)
    tl.store(raw_ptr + token, tl.sum(acc, 1), mask=valid)


@triton.jit
def _pool(
    raw_ptr,  # [T] float32
    out_ptr,  # [T] float32
    tokens,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = token < tokens
    pooled = tl.zeros([BLOCK], tl.float32)
    for shift in tl.static_range(-2, 3):
        near = token + shift
        pooled += tl.load(raw_ptr + near, mask=valid & (near >= 0) & (near < tokens), other=0.0)
    tl.store(out_ptr + token, pooled / 5.0, mask=valid)


# Best first (on an H200, see docs/gpu_log.md).
_RAW = (Launch(64, 4, 3, bulk=True), Launch(64, 4, 3), Launch(64, 4, 2))


def gem_scores(q: Tensor, k: Tensor) -> Tensor:
    """Launch the kernels; arguments as in `ctxshaper.kernels.gem_scores`, checked there."""
    k = k if k.stride(-1) == 1 else k.contiguous()
    last = q[-1] if q.stride(-1) == 1 else q[-1].contiguous()
    heads, dim = last.shape
    kv_heads, tokens = k.shape[:2]
    group = heads // kv_heads
    block_d = max(16, next_power_of_2(dim))
    raw = torch.empty(tokens, dtype=torch.float32, device=q.device)
    out = torch.empty(tokens, dtype=torch.float32, device=q.device)
    if tokens == 0:
        return out

    def run(launch: Launch) -> None:
        bulk = launch.bulk and k.is_contiguous()
        _raw[(triton.cdiv(tokens, launch.block),)](
            last, k, tiled(k, launch.block, block_d) if bulk else k, raw, last.stride(0), *k.stride()[:2], tokens,
            KV=kv_heads, G=group, BLOCK_G=max(16, next_power_of_2(group)), D=dim, BLOCK_D=block_d,
            BLOCK_N=launch.block, BULK=bulk, **launch.options,
        )  # fmt: skip

    candidates = _RAW if block_d <= 128 else _RAW[2:]
    run(choose(("gem", q.dtype, q.device, heads, kv_heads, dim, next_power_of_2(tokens)), candidates, run))
    block = 1024
    _pool[(triton.cdiv(tokens, block),)](raw, out, tokens, BLOCK=block, num_warps=4)
    return out
