"""Triton kernels of `ctxshaper.kernels.query_attention`: attend over a split of the keys, merge, mass.

The R rows of the G heads of one KV head are stacked into tiles of BLOCK_M, so that keys are read once for all of them
and the matrix unit is full. Keys are split over programs (flash decoding); a merge combines the parts. The mass needs
the final log-sum-exp, so it is a second, lighter pass over the keys alone, and only of heads whose weight is not zero.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.softmax import LN2, logits, softmax_step, unit_of
from ctxshaper.kernels.triton.tuning import Launch, choose, multiprocessors, next_power_of_2, tiled


@triton.jit
def _attend(
    q_ptr,  # [rows, H, D]
    k_ptr,  # [N, KV, S, D]
    v_ptr,  # [N, KV, S, D]
    k_tiles,  # descriptor of k as [N * KV * S, D], or k itself
    v_tiles,  # likewise of v
    ids_ptr,  # [pages]
    lengths_ptr,  # [pages]
    cu_rows_ptr,  # [B + 1]
    cu_pages_ptr,  # [B + 1]
    part_out_ptr,  # [SPLITS, rows, H, D] float32
    part_lse_ptr,  # [SPLITS, rows, H] float32, base 2
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
    total_rows,
    slots,
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
    BULK: tl.constexpr,
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
    unit = unit_of(scale, HAS_CAP)
    m = tl.full([BLOCK_M], -float("inf"), tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    n = tl.arange(0, BLOCK_N)

    tiles = tl.cdiv(slots, BLOCK_N)  # of one page
    start = (split * pages * tiles) // SPLITS
    end = ((split + 1) * pages * tiles) // SPLITS
    at, first = start // tiles, (start % tiles) * BLOCK_N
    # The page of the next tile is fetched a turn ahead: its latency would otherwise stall each turn.
    page = tl.load(ids_ptr + page0 + at, mask=start < end, other=0)
    length = tl.load(lengths_ptr + page0 + at, mask=start < end, other=0)
    for _ in range(start, end):
        slot = first + n
        valid = slot < length
        if BULK:
            tile_at = (page.to(tl.int32) * KV + head) * slots + first
            k = k_tiles.load([tile_at, 0])
        else:
            k_at = page.to(tl.int64) * k_page + head * k_head + slot[:, None] * k_slot + d[None, :]
            k = tl.load(k_ptr + k_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        v_at = page.to(tl.int64) * v_page + head * v_head + slot[:, None] * v_slot + d[None, :]
        first += BLOCK_N
        at += (first >= slots).to(tl.int32)
        first = tl.where(first >= slots, 0, first)
        page = tl.load(ids_ptr + page0 + tl.minimum(at, pages - 1))
        length = tl.load(lengths_ptr + page0 + tl.minimum(at, pages - 1))
        s = logits(tl.dot(q, k.T), scale, softcap, HAS_CAP)
        s = tl.where(valid[None, :], s, -float("inf"))
        m, alpha, p, l = softmax_step(s, unit, m, l)
        if NEED_OUT:
            if BULK:
                v = v_tiles.load([tile_at, 0])
            else:
                # The mask keeps what lies in invalid slots (NaN, perhaps) out of the product with p = 0.
                v = tl.load(v_ptr + v_at, mask=valid[:, None] & in_d[None, :], other=0.0)
            acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])

    part = (split * total_rows + row).to(tl.int64) * H + h
    tl.store(part_lse_ptr + part, tl.where(l > 0.0, m + tl.log2(l), -float("inf")), mask=in_rows)
    if NEED_OUT:
        acc = acc / tl.where(l > 0.0, l, 1.0)[:, None]
        tl.store(part_out_ptr + part[:, None] * D + d[None, :], acc, mask=in_rows[:, None] & in_d[None, :])


@triton.jit
def _merge(
    q_ptr,  # [rows, H, D]
    own_k_ptr,  # [rows, KV, D]
    own_v_ptr,  # [rows, KV, D]
    cu_rows_ptr,  # [B + 1]
    part_out_ptr,  # [PARTS, rows * H, D] float32
    part_lse_ptr,  # [PARTS, rows * H] float32, base 2
    out_ptr,  # [rows * H, D]
    lse_ptr,  # [rows * H] float32, base e
    total_rows,
    scale,
    softcap,
    q_row,
    q_head,
    ok_row,
    ok_head,
    ov_row,
    ov_head,
    PARTS: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    H: tl.constexpr,
    KV: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BATCHED: tl.constexpr,
    HAS_CAP: tl.constexpr,
    NEED_OUT: tl.constexpr,
):
    """Merge the parts of one row and head, and add the query's own keys up to that row."""
    own, h = tl.program_id(0) // H, tl.program_id(0) % H
    head = h // (H // KV)
    row0 = 0
    if BATCHED:
        row0 = tl.load(cu_rows_ptr + tl.program_id(1))
        if own >= tl.load(cu_rows_ptr + tl.program_id(1) + 1) - row0:
            return
    row = (row0 + own).to(tl.int64)
    at = row * H + h
    part = tl.arange(0, BLOCK_PARTS)
    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    key = tl.arange(0, BLOCK_O)
    total = tl.cast(total_rows, tl.int64) * H
    # All loads first: a program is one short chain of them, and waits for the slowest instead of for each.
    lse = tl.load(part_lse_ptr + part * total + at, mask=part < PARTS, other=-float("inf"))
    q = tl.load(q_ptr + row * q_row + h * q_head + d, mask=in_d, other=0.0).to(tl.float32)
    own_k_ptr += tl.cast(row0, tl.int64) * ok_row + head * ok_head
    own_v_ptr += tl.cast(row0, tl.int64) * ov_row + head * ov_head
    seen = key <= own
    k = tl.load(own_k_ptr + key[:, None] * ok_row + d[None, :], mask=seen[:, None] & in_d[None, :], other=0.0)
    acc = tl.zeros([BLOCK_D], tl.float32)
    if NEED_OUT:
        v = tl.load(own_v_ptr + key[:, None] * ov_row + d[None, :], mask=seen[:, None] & in_d[None, :], other=0.0)
        x_at = (part * total + at)[:, None] * D + d[None, :]
        x = tl.load(part_out_ptr + x_at, mask=(part < PARTS)[:, None] & in_d[None, :], other=0.0)
    m = tl.max(lse, 0)
    weight = tl.exp2(lse - tl.where(m == -float("inf"), 0.0, m))
    l = tl.sum(weight, 0)
    if NEED_OUT:
        acc = tl.sum(x * weight[:, None], 0)
    unit = unit_of(scale, HAS_CAP)
    for first in range(0, own + 1, BLOCK_O):
        s = logits(tl.sum(k.to(tl.float32) * q[None, :], 1), scale, softcap, HAS_CAP) * unit
        s = tl.where(seen, s, -float("inf"))
        m_new = tl.maximum(m, tl.max(s, 0))
        alpha = tl.exp2(m - m_new)
        p = tl.exp2(s - m_new)
        l = l * alpha + tl.sum(p, 0)
        m = m_new
        if NEED_OUT:
            acc = acc * alpha + tl.sum(v.to(tl.float32) * p[:, None], 0)
        key = first + BLOCK_O + tl.arange(0, BLOCK_O)
        seen = key <= own
        k = tl.load(own_k_ptr + key[:, None] * ok_row + d[None, :], mask=seen[:, None] & in_d[None, :], other=0.0)
        if NEED_OUT:
            v = tl.load(own_v_ptr + key[:, None] * ov_row + d[None, :], mask=seen[:, None] & in_d[None, :], other=0.0)
    tl.store(lse_ptr + at, (m + tl.log2(l)) * LN2)
    if NEED_OUT:
        tl.store(out_ptr + at * D + d, (acc / l).to(out_ptr.dtype.element_ty), mask=in_d)


# Best first (on an H200, see benchmarks/GPU_LOG.md): the first that applies runs where timing is not possible.
_BULK = (Launch(64, 4, 3, 2, bulk=True, rows=64), Launch(128, 8, 3, 1, bulk=True))
_KEYS_ONLY = (Launch(64, 4, 3, 2, bulk=True), Launch(64, 4, 3, 2))
# The last needs 48 KB of shared memory, for GPUs that have little.
_COPY = (Launch(64, 8, 3, 1), Launch(64, 4, 3, 2, rows=64), Launch(32, 4, 3, 2), Launch(32, 4, 2, 2, rows=64))
_FEW_ROWS = (Launch(64, 4, 3, 2), Launch(64, 4, 2, 4), Launch(128, 4, 2, 2))
_WIDE_HEADS = (Launch(64, 4, 2, 1, rows=64), Launch(32, 4, 2, 1, rows=64), Launch(32, 8, 2, 1, rows=64))


def _candidates(rows: int, block_d: int, bulk: bool, need_output: bool) -> tuple[Launch, ...]:
    if block_d > 128:
        return _WIDE_HEADS
    if rows < 64:
        return _FEW_ROWS
    if not need_output:
        return (_KEYS_ONLY if bulk else _KEYS_ONLY[1:]) + _COPY
    return (_BULK if bulk else ()) + _COPY


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
    finite: bool,
    offsets: tuple[Tensor, Tensor, int, int] | None = None,
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Launch the kernels; arguments as in `ctxshaper.kernels.query_attention`, checked there.

    `weights` is [rows, H] float32 or None; `finite` says that no invalid slot holds NaN or infinity; `offsets` is
    (cu_rows, cu_pages, max_rows, max_pages) for a batch.
    """
    q, k_pages, v_pages, own_k, own_v = (
        x if x.stride(-1) == 1 else x.contiguous() for x in (q, k_pages, v_pages, own_k, own_v)
    )
    total_rows, heads, dim = q.shape
    kv_heads, slots = k_pages.shape[1], k_pages.shape[2]
    group = heads // kv_heads
    cu_rows, cu_pages, rows, pages = offsets or (page_ids, page_ids, total_rows, page_ids.numel())
    requests = cu_rows.numel() - 1 if offsets else 1
    block_d = max(16, next_power_of_2(dim))
    shared = {"H": heads, "KV": kv_heads, "D": dim, "BLOCK_D": block_d,
              "BATCHED": offsets is not None, "HAS_CAP": softcap is not None}  # fmt: skip
    cap = 0.0 if softcap is None else softcap
    stacked = max(16, next_power_of_2(rows * group))
    out = torch.empty_like(q, memory_format=torch.contiguous_format) if need_output else None
    lse = torch.empty(total_rows, heads, dtype=torch.float32, device=q.device)

    # Whole tiles can be copied in bulk where a tile ends with its page and the slots past a length hold numbers. Keys
    # alone can be whatever: their logits are masked.
    bulk = k_pages.is_contiguous() and (not need_output or (finite and v_pages.is_contiguous() and slots % 128 == 0))

    def attend(launch: Launch) -> None:
        block = min(launch.block, max(16, next_power_of_2(slots)))
        tiles = pages * triton.cdiv(slots, block)
        block_m = min(launch.rows, stacked)
        row_tiles = triton.cdiv(rows * group, block_m)
        room = launch.per_sm * multiprocessors(q.device) // (kv_heads * row_tiles * requests)
        splits = max(1, min(room, triton.cdiv(tiles, 4), 128))
        part_out = torch.empty(
            splits, total_rows, heads, dim if need_output else 0, dtype=torch.float32, device=q.device
        )
        part_lse = torch.empty(splits, total_rows, heads, dtype=torch.float32, device=q.device)
        _attend[(row_tiles, splits, kv_heads * requests)](
            q, k_pages, v_pages, tiled(k_pages, block, block_d) if launch.bulk else k_pages,
            tiled(v_pages, block, block_d) if launch.bulk and need_output else v_pages,
            page_ids, page_lengths, cu_rows, cu_pages, part_out, part_lse, rows, pages, scale,
            cap, q.stride(0), q.stride(1), *k_pages.stride()[:3], *v_pages.stride()[:3],
            total_rows, slots, SPLITS=splits, BLOCK_M=block_m, BLOCK_N=block, NEED_OUT=need_output,
            BULK=launch.bulk, **shared,
            **launch.options,
        )  # fmt: skip
        _merge[(rows * heads, requests)](
            q, own_k, own_v, cu_rows, part_out, part_lse, q if out is None else out, lse, total_rows, scale, cap,
            q.stride(0), q.stride(1), *own_k.stride()[:2], *own_v.stride()[:2], PARTS=splits,
            BLOCK_PARTS=next_power_of_2(splits), BLOCK_O=32, NEED_OUT=need_output,
            num_warps=1, **shared,
        )  # fmt: skip

    size = next_power_of_2(pages * slots)
    key = ("attend", q.dtype, q.device, heads, kv_heads, dim, slots % 128 == 0, min(stacked, 1024), requests, size,
           need_output, bulk)  # fmt: skip
    attend(choose(key, _candidates(stacked, block_d, bulk, need_output), attend))
    if weights is None:
        return out, lse, None
    from ctxshaper.kernels.triton.attention_mass import attention_mass

    mass = attention_mass(q, k_pages, page_ids, page_lengths, lse, weights, scale, softcap, offsets)
    return out, lse, mass
