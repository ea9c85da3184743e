"""Triton kernels of `ctxshaper.kernels.gem_scores`: raw scores in one pass over the keys, then the pooling."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.tuning import Launch, choose, next_power_of_2, tiled


@triton.jit
def _raw(
    q_ptr,  # [H, D], the last row
    k_ptr,  # [N, KV, S, D]
    k_tiles,  # descriptor of k as [N * KV * S, D], or k itself
    ids_ptr,  # [P]
    ends_ptr,  # [P], running total of the valid slots
    raw_ptr,  # [P * S] float32, valid tokens first, without gaps
    q_head,
    k_page,
    k_head,
    k_slot,
    slots,
    tiles,
    KV: tl.constexpr,
    G: tl.constexpr,
    BLOCK_G: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PAGED: tl.constexpr,
    BULK: tl.constexpr,
):
    at = tl.program_id(0) // tiles
    first, length, page = 0, slots, 0
    if PAGED:
        page = tl.load(ids_ptr + at)
        first = tl.load(ends_ptr + at - 1, mask=at > 0, other=0)
        length = tl.load(ends_ptr + at) - first
    start = (tl.program_id(0) % tiles) * BLOCK_N
    slot = start + tl.arange(0, BLOCK_N)
    valid = slot < length
    d = tl.arange(0, BLOCK_D)
    g = tl.arange(0, BLOCK_G)
    k_ptr += tl.cast(page, tl.int64) * k_page
    acc = tl.zeros([BLOCK_N, BLOCK_G], tl.float32)
    # The matrix unit works on 16 columns at least, so the heads of a group cost nothing beside their sum: one product
    # per KV head either way, and the queries enter it unrounded.
    for head in range(KV):
        q_at = (head * G + g)[None, :] * q_head + d[:, None]
        q = tl.load(q_ptr + q_at, mask=(g < G)[None, :] & (d < D)[:, None], other=0.0)
        if BULK:
            k = k_tiles.load([(tl.cast(page, tl.int32) * KV + head) * slots + start, 0])
        else:
            k_at = tl.cast(head, tl.int64) * k_head + slot.to(tl.int64)[:, None] * k_slot + d[None, :]
            k = tl.load(k_ptr + k_at, mask=valid[:, None] & (d < D)[None, :], other=0.0)
        acc = tl.dot(k, q, acc)
    tl.store(raw_ptr + first + slot, tl.sum(acc, 1), mask=valid)


@triton.jit
def _pool(
    raw_ptr,  # [P * S] float32, valid tokens first
    ends_ptr,  # [P]
    out_ptr,  # [P * S] float32
    slots,
    total,
    pages,
    BLOCK: tl.constexpr,
    PAGED: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < total
    token = i
    valid = inside
    end = total
    if PAGED:
        page = i // slots
        first = tl.load(ends_ptr + page - 1, mask=inside & (page > 0), other=0)
        length = tl.load(ends_ptr + page, mask=inside, other=0) - first
        valid = inside & (i % slots < length)
        token = first + i % slots
        end = tl.load(ends_ptr + pages - 1)
    pooled = tl.zeros([BLOCK], tl.float32)
    for shift in tl.static_range(-2, 3):
        near = token + shift
        pooled += tl.load(raw_ptr + near, mask=valid & (near >= 0) & (near < end), other=0.0)
    tl.store(out_ptr + i, tl.where(valid, pooled / 5.0, 0.0), mask=inside)


# Best first (on an H200, see benchmarks/GPU_LOG.md).
_RAW = (Launch(64, 4, 3, bulk=True), Launch(64, 4, 3), Launch(64, 4, 2))


def gem_scores(q: Tensor, pages: Tensor, page_ids: Tensor | None, page_lengths: Tensor | None) -> Tensor:
    """Launch the kernels; arguments as in `ctxshaper.kernels.gem_scores.reference`, checked by the dispatcher."""
    pages = pages if pages.stride(-1) == 1 else pages.contiguous()
    last = q[-1] if q.stride(-1) == 1 else q[-1].contiguous()
    heads, dim = last.shape
    kv_heads, slots = pages.shape[1:3]
    group = heads // kv_heads
    block_d = max(16, next_power_of_2(dim))
    count = 1 if page_ids is None else page_ids.numel()
    total = count * slots
    raw = torch.empty(total, dtype=torch.float32, device=q.device)
    out = torch.empty(total, dtype=torch.float32, device=q.device)
    if total == 0:
        return out
    paged = page_ids is not None and page_lengths is not None
    ends = page_lengths.cumsum(0, dtype=torch.int32) if page_lengths is not None else raw

    def run(launch: Launch) -> None:
        tiles = triton.cdiv(slots, launch.block)
        bulk = launch.bulk and pages.is_contiguous()
        _raw[(count * tiles,)](
            last, pages, tiled(pages, launch.block, block_d) if bulk else pages,
            page_ids if page_ids is not None else raw, ends, raw, last.stride(0), *pages.stride()[:3],
            slots, tiles, KV=kv_heads, G=group, BLOCK_G=max(16, next_power_of_2(group)), D=dim, BLOCK_D=block_d,
            BLOCK_N=launch.block, PAGED=paged, BULK=bulk, **launch.options,
        )  # fmt: skip

    candidates = _RAW if block_d <= 128 else _RAW[2:]
    key = ("gem", q.dtype, q.device, heads, kv_heads, dim, slots % 128 == 0, next_power_of_2(total), paged)
    run(choose(key, candidates, run))
    block = 1024
    _pool[(triton.cdiv(total, block),)](raw, ends, out, slots, total, count, BLOCK=block, PAGED=paged, num_warps=4)
    return out
