"""Triton kernels of `ctxshaper.kernels.query_attention`: attend over a split of the keys, merge, mass.

The R rows of the G heads of one KV head are stacked into tiles of BLOCK_M, so that keys are read once for all of them
and the matrix unit is full. Keys are split over programs (flash decoding); a merge combines the parts. The mass needs
the final log-sum-exp, so it is a second, lighter pass over the keys alone, and only of heads whose weight is not zero.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.tuning import Launch, choose, multiprocessors, next_power_of_2

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _capped(s, scale, softcap, HAS_CAP: tl.constexpr):
    """Scaled logits times log2(e), so that the exponentials are powers of two."""
    if HAS_CAP:
        # tanh(x) = 1 - 2 / (exp(2x) + 1); exact at both ends, where exp overflows or vanishes.
        x = s * (scale / softcap)
        s = softcap * LOG2E * (1.0 - 2.0 / (tl.exp2(x * (2.0 * LOG2E)) + 1.0))
    else:
        s = s * (scale * LOG2E)
    return s


@triton.jit
def _softmax_step(s, m, l):
    """One online-softmax step: new maximum, rescale factor, probabilities relative to the maximum, sum."""
    m_new = tl.maximum(m, tl.max(s, 1))
    # A row that has seen no valid key keeps -inf; subtracting -inf from -inf would be NaN.
    shift = tl.where(m_new == -float("inf"), 0.0, m_new)
    alpha = tl.exp2(m - shift)
    p = tl.exp2(s - shift[:, None])
    return m_new, alpha, p, l * alpha + tl.sum(p, 1)


@triton.jit
def _attend(
    q_ptr,  # [rows, H, D]
    k_ptr,  # [N, KV, S, D]
    v_ptr,  # [N, KV, S, D]
    ids_ptr,  # [pages]
    lengths_ptr,  # [pages]
    own_k_ptr,  # [rows, KV, D]
    own_v_ptr,  # [rows, KV, D]
    cu_rows_ptr,  # [B + 1]
    cu_pages_ptr,  # [B + 1]
    part_out_ptr,  # [SPLITS + 1, rows, H, D] float32
    part_lse_ptr,  # [SPLITS + 1, rows, H] float32, base 2
    rows,
    pages,
    scale,
    softcap,
    q_row,
    q_head,
    k_page,
    k_head,
    k_slot,
    v_page,
    v_head,
    v_slot,
    ok_row,
    ok_head,
    ov_row,
    ov_head,
    total_rows,
    SLOTS: tl.constexpr,
    SPLITS: tl.constexpr,
    H: tl.constexpr,
    KV: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BATCHED: tl.constexpr,
    HAS_CAP: tl.constexpr,
    NEED_OUT: tl.constexpr,
):
    # Row tiles of one split run side by side, so that the second finds the keys in L2.
    tile, split = tl.program_id(0), tl.program_id(1)
    head, request = tl.program_id(2) % KV, tl.program_id(2) // KV
    G: tl.constexpr = H // KV
    row0, page0 = 0, 0
    if BATCHED:
        row0 = tl.load(cu_rows_ptr + request)
        rows = tl.load(cu_rows_ptr + request + 1) - row0
        page0 = tl.load(cu_pages_ptr + request)
        pages = tl.load(cu_pages_ptr + request + 1) - page0
    if tile * BLOCK_M >= rows * G:
        return
    packed = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    row, h = row0 + packed // G, head * G + packed % G
    in_rows = packed < rows * G
    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    q_at = row.to(tl.int64)[:, None] * q_row + h[:, None] * q_head + d[None, :]
    q = tl.load(q_ptr + q_at, mask=in_rows[:, None] & in_d[None, :], other=0.0)
    m = tl.full([BLOCK_M], -float("inf"), tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    n = tl.arange(0, BLOCK_N)

    if split < SPLITS:
        TILES: tl.constexpr = (SLOTS + BLOCK_N - 1) // BLOCK_N  # of one page
        start = (split * pages * TILES) // SPLITS
        end = ((split + 1) * pages * TILES) // SPLITS
        # The page of the next tile is fetched a turn ahead: its latency would otherwise stall each turn.
        page = tl.load(ids_ptr + page0 + start // TILES, mask=start < end, other=0)
        length = tl.load(lengths_ptr + page0 + start // TILES, mask=start < end, other=0)
        for t in range(start, end):
            slot = (t % TILES) * BLOCK_N + n
            valid = slot < length
            k_at = page.to(tl.int64) * k_page + head * k_head + slot[:, None] * k_slot + d[None, :]
            k = tl.load(k_ptr + k_at, mask=valid[:, None] & in_d[None, :], other=0.0)
            v_at = page.to(tl.int64) * v_page + head * v_head + slot[:, None] * v_slot + d[None, :]
            if t + 1 < end:
                page = tl.load(ids_ptr + page0 + (t + 1) // TILES)
                length = tl.load(lengths_ptr + page0 + (t + 1) // TILES)
            s = _capped(tl.dot(q, k.T), scale, softcap, HAS_CAP)
            s = tl.where(valid[None, :], s, -float("inf"))
            m, alpha, p, l = _softmax_step(s, m, l)
            if NEED_OUT:
                # The mask keeps what lies in invalid slots (NaN, perhaps) out of the product with p = 0.
                v = tl.load(v_ptr + v_at, mask=valid[:, None] & in_d[None, :], other=0.0)
                acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])
    else:
        last = tl.minimum((tile + 1) * BLOCK_M + G - 1, rows * G) // G  # rows after the tile's are hidden from it
        for first in range(0, last, BLOCK_N):
            key = first + n
            valid = key < rows
            ok_at = (row0 + key).to(tl.int64)[:, None] * ok_row + head * ok_head + d[None, :]
            k = tl.load(own_k_ptr + ok_at, mask=valid[:, None] & in_d[None, :], other=0.0)
            s = _capped(tl.dot(q, k.T), scale, softcap, HAS_CAP)
            s = tl.where(valid[None, :] & (key[None, :] <= (packed // G)[:, None]), s, -float("inf"))
            m, alpha, p, l = _softmax_step(s, m, l)
            if NEED_OUT:
                ov_at = (row0 + key).to(tl.int64)[:, None] * ov_row + head * ov_head + d[None, :]
                v = tl.load(own_v_ptr + ov_at, mask=valid[:, None] & in_d[None, :], other=0.0)
                acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])

    part = (split * total_rows + row).to(tl.int64) * H + h
    tl.store(part_lse_ptr + part, tl.where(l > 0.0, m + tl.log2(l), -float("inf")), mask=in_rows)
    if NEED_OUT:
        acc = acc / tl.where(l > 0.0, l, 1.0)[:, None]
        tl.store(part_out_ptr + part[:, None] * D + d[None, :], acc, mask=in_rows[:, None] & in_d[None, :])


@triton.jit
def _merge(
    part_out_ptr,  # [PARTS, rows * H, D] float32
    part_lse_ptr,  # [PARTS, rows * H] float32, base 2
    out_ptr,  # [rows * H, D]
    lse_ptr,  # [rows * H] float32, base e
    total,
    PARTS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NEED_OUT: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, BLOCK_PARTS)
    lse = tl.load(part_lse_ptr + part.to(tl.int64) * total + at, mask=part < PARTS, other=-float("inf"))
    m = tl.max(lse, 0)  # finite: a row always sees its own key
    weight = tl.exp2(lse - m)
    norm = tl.sum(weight, 0)
    tl.store(lse_ptr + at, (m + tl.log2(norm)) * LN2)
    if NEED_OUT:
        d = tl.arange(0, BLOCK_D)
        x_at = (part.to(tl.int64) * total + at)[:, None] * D + d[None, :]
        x = tl.load(part_out_ptr + x_at, mask=(part < PARTS)[:, None] & (d < D)[None, :], other=0.0)
        out = tl.sum(x * weight[:, None], 0) / norm
        tl.store(out_ptr + at * D + d, out.to(out_ptr.dtype.element_ty), mask=d < D)


@triton.jit
def _mass(
    q_ptr,  # [rows, H, D]
    k_ptr,  # [N, KV, S, D]
    ids_ptr,  # [pages]
    lengths_ptr,  # [pages]
    lse_ptr,  # [rows, H] float32, base e
    weights_ptr,  # [rows, H] float32
    cu_rows_ptr,  # [B + 1]
    cu_pages_ptr,  # [B + 1]
    part_ptr,  # [KV * row tiles, pages * S] float32
    rows,
    pages,
    total_slots,
    tiles_each,
    scale,
    softcap,
    q_row,
    q_head,
    k_page,
    k_head,
    k_slot,
    SLOTS: tl.constexpr,
    H: tl.constexpr,
    KV: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BATCHED: tl.constexpr,
    HAS_CAP: tl.constexpr,
    ROW_TILES: tl.constexpr,
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
    TILES: tl.constexpr = (SLOTS + BLOCK_N - 1) // BLOCK_N
    start = split * tiles_each
    end = tl.minimum(start + tiles_each, pages * TILES)
    if start >= end:
        return
    n = tl.arange(0, BLOCK_N)
    part_ptr += (head * ROW_TILES + tile).to(tl.int64) * total_slots + page0 * SLOTS
    # Rows of one head stand together, so that a head without weight is a tile without weight.
    packed = tile * BLOCK_R + tl.arange(0, BLOCK_R)
    in_rows = packed < rows * G
    row, h = row0 + packed % rows, head * G + packed // rows
    weight = tl.load(weights_ptr + row.to(tl.int64) * H + h, mask=in_rows, other=0.0)
    if tl.max(tl.abs(weight), 0) == 0.0:
        for t in range(start, end):
            slot = (t % TILES) * BLOCK_N + n
            tl.store(part_ptr + (t // TILES) * SLOTS + slot, tl.zeros([BLOCK_N], tl.float32), mask=slot < SLOTS)
        return
    lse = tl.load(lse_ptr + row.to(tl.int64) * H + h, mask=in_rows, other=0.0) * LOG2E
    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    q_at = row.to(tl.int64)[None, :] * q_row + h[None, :] * q_head + d[:, None]
    q = tl.load(q_ptr + q_at, mask=in_rows[None, :] & in_d[:, None], other=0.0)
    page = tl.load(ids_ptr + page0 + start // TILES)
    length = tl.load(lengths_ptr + page0 + start // TILES)
    for t in range(start, end):
        slot = (t % TILES) * BLOCK_N + n
        valid = slot < length
        k_at = page.to(tl.int64) * k_page + head * k_head + slot[:, None] * k_slot + d[None, :]
        k = tl.load(k_ptr + k_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        if t + 1 < end:
            page = tl.load(ids_ptr + page0 + (t + 1) // TILES)
            length = tl.load(lengths_ptr + page0 + (t + 1) // TILES)
        # Keys are the rows of this product, so that the sum over query rows stays within a thread's registers.
        s = _capped(tl.dot(k, q), scale, softcap, HAS_CAP)
        p = tl.sum(tl.exp2(s - lse[None, :]) * weight[None, :], 1)
        tl.store(part_ptr + (t // TILES) * SLOTS + slot, tl.where(valid, p, 0.0), mask=slot < SLOTS)


# Best first: the first is what runs where timing is not possible. Measured on an H200, see benchmarks/GPU_LOG.md.
_ATTEND = (Launch(64, 4, 3, 2), Launch(128, 8, 2, 1), Launch(64, 8, 3, 1))
_MASS = (Launch(128, 4, 2, 2), Launch(64, 4, 3, 2), Launch(128, 8, 3, 1))
Offsets = tuple[Tensor, Tensor, int, int]


def query_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_ids: Tensor,
    page_lengths: Tensor,
    own_k: Tensor,
    own_v: Tensor,
    scale: float,
    softcap: float | None,
    weights: Tensor | None,
    need_output: bool,
    offsets: Offsets | None = None,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Launch the kernels; arguments as in `ctxshaper.kernels.query_attention`, checked there.

    `weights` is [rows, H] float32 or None; `offsets` is (cu_rows, cu_pages, max_rows, max_pages) for a batch.
    """
    q, k_pages, v_pages, own_k, own_v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k_pages, v_pages, own_k, own_v))
    total_rows, heads, dim = q.shape
    kv_heads, slots = k_pages.shape[1], k_pages.shape[2]
    group = heads // kv_heads
    cu_rows, cu_pages, rows, pages = offsets or (page_ids, page_ids, total_rows, page_ids.numel())
    requests = cu_rows.numel() - 1 if offsets else 1
    block_d = max(16, next_power_of_2(dim))
    shared = {"H": heads, "KV": kv_heads, "D": dim, "BLOCK_D": block_d, "SLOTS": slots,
              "BATCHED": offsets is not None, "HAS_CAP": softcap is not None}  # fmt: skip
    cap = 0.0 if softcap is None else softcap
    block_m = min(128 if block_d <= 128 else 64, max(16, next_power_of_2(rows * group)))
    row_tiles = triton.cdiv(rows * group, block_m)
    out = torch.empty_like(q, memory_format=torch.contiguous_format) if need_output else None
    lse = torch.empty(total_rows, heads, dtype=torch.float32, device=q.device)

    def attend(launch: Launch) -> None:
        block = min(launch.block, max(16, next_power_of_2(slots)))
        tiles = pages * triton.cdiv(slots, block)
        room = launch.per_sm * multiprocessors(q.device) // (kv_heads * row_tiles * requests)
        # One program of each head is for the query's own keys; what is left of the room is for the pages.
        splits = max(1, min(room - 1, triton.cdiv(tiles, 4), 128))
        part_out = torch.empty(splits + 1, total_rows, heads, dim if need_output else 0, dtype=torch.float32, device=q.device)
        part_lse = torch.empty(splits + 1, total_rows, heads, dtype=torch.float32, device=q.device)
        _attend[(row_tiles, splits + 1, kv_heads * requests)](
            q, k_pages, v_pages, page_ids, page_lengths, own_k, own_v, cu_rows, cu_pages, part_out, part_lse,
            rows, pages, scale, cap, q.stride(0), q.stride(1), *k_pages.stride()[:3], *v_pages.stride()[:3],
            *own_k.stride()[:2], *own_v.stride()[:2], total_rows, SPLITS=splits, BLOCK_M=block_m, BLOCK_N=block,
            NEED_OUT=need_output, **shared, **launch.options,
        )  # fmt: skip
        _merge[(total_rows * heads,)](
            part_out, part_lse, q if out is None else out, lse, total_rows * heads, PARTS=splits + 1,
            BLOCK_PARTS=next_power_of_2(splits + 1), D=dim, BLOCK_D=block_d, NEED_OUT=need_output, num_warps=4,
        )  # fmt: skip

    size = next_power_of_2(pages * slots)
    key = ("attend", q.dtype, q.device, heads, kv_heads, dim, slots, block_m, row_tiles, requests, size, need_output)
    attend(choose(key, _ATTEND, attend))
    if weights is None:
        return out, lse, None
    mass = mass_of(q, k_pages, page_ids, page_lengths, lse, weights, scale, softcap, offsets)
    return out, lse, mass


def mass_of(
    q: Tensor,
    k_pages: Tensor,
    page_ids: Tensor,
    page_lengths: Tensor,
    lse: Tensor,
    weights: Tensor,
    scale: float,
    softcap: float | None,
    offsets: Offsets | None = None,
) -> Tensor:
    """Launch the mass pass alone: [P * S] float32 from the final `lse` [rows, H] and `weights` [rows, H]."""
    total_rows, heads, dim = q.shape
    kv_heads, slots = k_pages.shape[1], k_pages.shape[2]
    cu_rows, cu_pages, rows, pages = offsets or (page_ids, page_ids, total_rows, page_ids.numel())
    requests = cu_rows.numel() - 1 if offsets else 1
    block_d = max(16, next_power_of_2(dim))
    packed = rows * (heads // kv_heads)
    block_r = min(128 if block_d <= 128 else 64, max(16, next_power_of_2(packed)))
    row_tiles = triton.cdiv(packed, block_r)
    total_slots = page_ids.numel() * slots
    parts = torch.empty(kv_heads * row_tiles, total_slots, dtype=torch.float32, device=q.device)
    if total_slots == 0:
        return parts.sum(0)

    def run(launch: Launch) -> None:
        block = min(launch.block, max(16, next_power_of_2(slots)))
        tiles = pages * triton.cdiv(slots, block)
        room = max(1, 4 * launch.per_sm * multiprocessors(q.device) // (kv_heads * row_tiles * requests))
        each = max(triton.cdiv(tiles, room), min(tiles, 4))
        _mass[(kv_heads * row_tiles, triton.cdiv(tiles, each), requests)](
            q, k_pages, page_ids, page_lengths, lse, weights, cu_rows, cu_pages, parts, rows, pages, total_slots, each,
            scale, 0.0 if softcap is None else softcap, q.stride(0), q.stride(1), *k_pages.stride()[:3],
            H=heads, KV=kv_heads, D=dim, BLOCK_D=block_d, SLOTS=slots, BATCHED=offsets is not None,
            HAS_CAP=softcap is not None, BLOCK_R=block_r, BLOCK_N=block, ROW_TILES=row_tiles, **launch.options,
        )  # fmt: skip

    size = next_power_of_2(pages * slots)
    run(choose(("mass", q.dtype, q.device, heads, kv_heads, dim, slots, block_r, row_tiles, requests, size), _MASS, run))
    return parts.sum(0)
