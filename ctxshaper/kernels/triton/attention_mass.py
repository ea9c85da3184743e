"""Triton kernels of the mass in `ctxshaper.kernels.query_attention`: a light pass over the keys with the final lse.

Partial results of attention cannot give the mass: each row has its own final log-sum-exp, known only at the end, and
the sum over rows cannot be rescaled row by row. So the keys of the heads that count are read once more.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.softmax import LOG2E, logits, unit_of
from ctxshaper.kernels.triton.tuning import Launch, choose, multiprocessors, next_power_of_2, tiled


@triton.jit
def _mass(
    q_ptr,  # [rows, H, D]
    k_ptr,  # [N, KV, S, D]
    k_tiles,  # descriptor of k as [N * KV * S, D], or k itself
    ids_ptr,  # [pages]
    lengths_ptr,  # [pages]
    lse_ptr,  # [rows, H] float32, base e
    weights_ptr,  # [rows, H] float32
    cu_rows_ptr,  # [B + 1]
    cu_pages_ptr,  # [B + 1]
    part_ptr,  # [KV * row tiles, pages * S] float32
    active_ptr,  # [B, KV * row tiles] int32: whether a part holds anything
    rows,
    pages,
    slots,
    total_slots,
    tiles_each,
    scale,
    softcap,
    q_row,
    q_head,
    k_page,
    k_head,
    k_slot,
    H: tl.constexpr,
    KV: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BATCHED: tl.constexpr,
    HAS_CAP: tl.constexpr,
    ROW_TILES: tl.constexpr,
    BULK: tl.constexpr,
):
    tile, split = tl.program_id(0) % ROW_TILES, tl.program_id(1)
    head, request = tl.program_id(0) // ROW_TILES, tl.program_id(2)
    G: tl.constexpr = H // KV
    row0, page0 = 0, 0
    if BATCHED:
        row0 = tl.load(cu_rows_ptr + request)
        rows = tl.load(cu_rows_ptr + request + 1) - row0
        page0 = tl.load(cu_pages_ptr + request)
        pages = tl.load(cu_pages_ptr + request + 1) - page0
    tiles = tl.cdiv(slots, BLOCK_N)
    start = split * tiles_each
    end = tl.minimum(start + tiles_each, pages * tiles)
    if start >= end:
        return
    at, first = start // tiles, (start % tiles) * BLOCK_N
    n = tl.arange(0, BLOCK_N)
    part_ptr += tl.cast(head * ROW_TILES + tile, tl.int64) * total_slots + page0 * slots
    # Rows of one head stand together, so that a head without weight is a tile without weight.
    packed = tile * BLOCK_R + tl.arange(0, BLOCK_R)
    in_rows = packed < rows * G
    row, h = row0 + packed % rows, head * G + packed // rows
    weight = tl.load(weights_ptr + row.to(tl.int64) * H + h, mask=in_rows, other=0.0)
    counts = tl.max(tl.abs(weight), 0) > 0.0
    if split == 0:
        tl.store(active_ptr + request * KV * ROW_TILES + tl.program_id(0), counts.to(tl.int32))
    if not counts:
        return
    lse = tl.load(lse_ptr + row.to(tl.int64) * H + h, mask=in_rows, other=0.0) * LOG2E
    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    q_at = row.to(tl.int64)[None, :] * q_row + h[None, :] * q_head + d[:, None]
    q = tl.load(q_ptr + q_at, mask=in_rows[None, :] & in_d[:, None], other=0.0)
    unit = unit_of(scale, HAS_CAP)
    page = tl.load(ids_ptr + page0 + at)
    length = tl.load(lengths_ptr + page0 + at)
    for _ in range(start, end):
        slot = first + n
        valid = slot < length
        if BULK:
            k = k_tiles.load([(page.to(tl.int32) * KV + head) * slots + first, 0])
        else:
            k_at = page.to(tl.int64) * k_page + head * k_head + slot[:, None] * k_slot + d[None, :]
            k = tl.load(k_ptr + k_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        to = part_ptr + at * slots + slot
        in_page = slot < slots
        first += BLOCK_N
        at += (first >= slots).to(tl.int32)
        first = tl.where(first >= slots, 0, first)
        page = tl.load(ids_ptr + page0 + tl.minimum(at, pages - 1))
        length = tl.load(lengths_ptr + page0 + tl.minimum(at, pages - 1))
        # Keys are the rows of this product, so that the sum over query rows stays within a thread's registers.
        s = logits(tl.dot(k, q), scale, softcap, HAS_CAP)
        p = tl.sum(tl.exp2(s * unit - lse[None, :]) * weight[None, :], 1)
        tl.store(to, tl.where(valid, p, 0.0), mask=in_page)


@triton.jit
def _sum(
    part_ptr,  # [PARTS, total] float32
    active_ptr,  # [B, PARTS] int32
    cu_pages_ptr,  # [B + 1]
    mass_ptr,  # [total] float32
    total,
    pages,
    slots,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
    BATCHED: tl.constexpr,
):
    request, first = tl.program_id(1), 0
    if BATCHED:
        first = tl.load(cu_pages_ptr + request) * slots
        pages = tl.load(cu_pages_ptr + request + 1) - tl.load(cu_pages_ptr + request)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < pages * slots
    acc = tl.zeros([BLOCK], tl.float32)
    for part in range(PARTS):
        end = tl.load(active_ptr + request * PARTS + part) * pages * slots  # 0 for a part that holds nothing
        x_at = tl.cast(part, tl.int64) * total + first + at
        acc += tl.load(part_ptr + x_at, mask=at < end, other=0.0)
    tl.store(mass_ptr + first + at, acc, mask=inside)


# Best first (on an H200, see benchmarks/GPU_LOG.md). NaN in an invalid slot of a bulk copy stays in its own row of the
# product, which is not stored.
_MASS = (Launch(64, 4, 3, 2, bulk=True), Launch(64, 4, 3, 1, bulk=True), Launch(64, 4, 3, 2))
_WIDE_HEADS = (Launch(64, 4, 2, 2, rows=64), Launch(32, 4, 2, 2, rows=64))


def attention_mass(
    q: Tensor,
    k_pages: Tensor,
    page_ids: Tensor,
    page_lengths: Tensor,
    lse: Tensor,
    weights: Tensor,
    scale: float,
    softcap: float | None,
    offsets: tuple[Tensor, Tensor, int, int] | None = None,
) -> Tensor:
    """Launch the mass pass alone: [P * S] float32 from the final `lse` [rows, H] and `weights` [rows, H]."""
    total_rows, heads, dim = q.shape
    kv_heads, slots = k_pages.shape[1], k_pages.shape[2]
    cu_rows, cu_pages, rows, pages = offsets or (page_ids, page_ids, total_rows, page_ids.numel())
    requests = cu_rows.numel() - 1 if offsets else 1
    block_d = max(16, next_power_of_2(dim))
    packed = rows * (heads // kv_heads)
    total_slots = page_ids.numel() * slots
    mass = torch.empty(total_slots, dtype=torch.float32, device=q.device)
    if total_slots == 0:
        return mass

    def run(launch: Launch) -> None:
        block = min(launch.block, max(16, next_power_of_2(slots)))
        tiles = pages * triton.cdiv(slots, block)
        block_r = min(launch.rows, max(16, next_power_of_2(packed)))
        row_tiles = triton.cdiv(packed, block_r)
        parts = torch.empty(kv_heads * row_tiles, total_slots, dtype=torch.float32, device=q.device)
        active = torch.empty(requests, kv_heads * row_tiles, dtype=torch.int32, device=q.device)
        room = max(1, 4 * launch.per_sm * multiprocessors(q.device) // (kv_heads * row_tiles * requests))
        each = max(triton.cdiv(tiles, room), min(tiles, 4))
        bulk = launch.bulk and k_pages.is_contiguous()
        _mass[(kv_heads * row_tiles, triton.cdiv(tiles, each), requests)](
            q, k_pages, tiled(k_pages, block, block_d) if bulk else k_pages, page_ids, page_lengths, lse, weights,
            cu_rows, cu_pages, parts, active, rows, pages, slots, total_slots, each, scale,
            0.0 if softcap is None else softcap, q.stride(0), q.stride(1), *k_pages.stride()[:3], H=heads,
            KV=kv_heads, D=dim, BLOCK_D=block_d, BATCHED=offsets is not None, HAS_CAP=softcap is not None,
            BLOCK_R=block_r, BLOCK_N=block,
            BULK=bulk, ROW_TILES=row_tiles, **launch.options,
        )  # fmt: skip
        _sum[(triton.cdiv(pages * slots, 512), requests)](
            parts, active, cu_pages, mass, total_slots, pages, slots, PARTS=parts.shape[0], BLOCK=512,
            BATCHED=offsets is not None, num_warps=4,
        )  # fmt: skip

    key = ("mass", q.dtype, q.device, heads, kv_heads, dim, slots % 128 == 0, min(next_power_of_2(packed), 1024),
           requests, next_power_of_2(pages * slots))  # fmt: skip
    run(choose(key, _MASS if block_d <= 128 else _WIDE_HEADS, run))
    return mass
