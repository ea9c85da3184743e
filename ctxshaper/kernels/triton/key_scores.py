"""Triton kernels of `ctxshaper.kernels.key_scores`: one pass over the keys for the log-sum-exp, one for the mass.

Keys are read where they lie: a program takes one tile of one range from a table. 8-bit keys become 16-bit floats
exactly, so the products are those of the rows with the rounded keys. Sums over tokens are in float64 and exponentials
relative to `rest`, so that neither tiles nor the order of ranges show in the scores.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.kernels.triton.softmax import LOG2E, logits, unit_of
from ctxshaper.kernels.triton.tuning import Launch, choose, next_power_of_2


@triton.jit
def _keys(
    k_ptr,  # [S, C, D] int8 or half
    scales_ptr,  # [S, C]
    slot,
    start,
    length,
    k_slot,
    k_token,
    s_slot,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SCALED: tl.constexpr,
    HALF: tl.constexpr,
):
    """Keys [BLOCK_N, BLOCK_D] of one tile as HALF, and their factors [BLOCK_N]."""
    n = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    token = (start + n).to(tl.int64)
    valid = n < length
    at = slot.to(tl.int64) * k_slot + token[:, None] * k_token + d[None, :]
    k = tl.load(k_ptr + at, mask=valid[:, None] & (d < D)[None, :], other=0).to(HALF)
    factor = tl.full([BLOCK_N], 1.0, tl.float32)
    if SCALED:
        factor = tl.load(scales_ptr + slot.to(tl.int64) * s_slot + token, mask=valid, other=0.0).to(tl.float32)
    return k, factor, valid


@triton.jit
def _lse(
    rows_ptr,  # [M, D], rows of a slot together
    slots_ptr,  # [G, 3] int32: slot, its first row, one past its last
    k_ptr,  # [S, C, D]
    scales_ptr,  # [S, C]
    table_ptr,  # [tiles, 3] int32: start, tokens, place among the scores
    rest_ptr,  # [M] float32
    part_ptr,  # [tiles, M] float64: sums of exponentials relative to rest
    total_rows,
    scale,
    softcap,
    k_slot,
    k_token,
    s_slot,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SCALED: tl.constexpr,
    HAS_CAP: tl.constexpr,
):
    tile, group = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots_ptr + 3 * group)
    first, last = tl.load(slots_ptr + 3 * group + 1), tl.load(slots_ptr + 3 * group + 2)
    start, length = tl.load(table_ptr + 3 * tile), tl.load(table_ptr + 3 * tile + 1)
    HALF: tl.constexpr = rows_ptr.dtype.element_ty
    k, factor, valid = _keys(k_ptr, scales_ptr, slot, start, length, k_slot, k_token, s_slot, D, BLOCK_D, BLOCK_N,
                             SCALED, HALF)  # fmt: skip
    d = tl.arange(0, BLOCK_D)
    unit = unit_of(scale, HAS_CAP)
    for row0 in range(first, last, BLOCK_R):
        row = row0 + tl.arange(0, BLOCK_R)
        inside = row < last
        q = tl.load(rows_ptr + row[None, :] * D + d[:, None], mask=inside[None, :] & (d < D)[:, None], other=0.0)
        rest = tl.load(rest_ptr + row, mask=inside, other=0.0) * LOG2E
        x = logits(tl.dot(k, q) * factor[:, None], scale, softcap, HAS_CAP) * unit - rest[None, :]
        x = tl.where(valid[:, None], x, -float("inf"))
        # 0 unless a logit stands far above `rest`; a step of 64, so that ordinary rows all use the same shift.
        lift = tl.ceil(tl.maximum(tl.max(x, 0), 0.0) / 64.0) * 64.0
        sums = tl.sum(tl.exp2(x - lift[None, :]).to(tl.float64), 0) * tl.exp2(lift.to(tl.float64))
        tl.store(part_ptr + tl.cast(tile, tl.int64) * total_rows + row, sums, mask=inside)


@triton.jit
def _total(
    part_ptr,  # [tiles, M] float64
    rest_ptr,  # [M] float32
    lse_ptr,  # [M] float64, base e
    tiles,
    total_rows,
    JOINED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    acc = tl.zeros([BLOCK], tl.float64)
    for first in range(0, tiles, BLOCK):
        tile = first + tl.arange(0, BLOCK)
        acc += tl.load(part_ptr + tile.to(tl.int64) * total_rows + row, mask=tile < tiles, other=0.0)
    total = tl.sum(acc, 0)
    if JOINED:
        total += 1.0  # what `rest` itself is, relative to rest
    tl.store(lse_ptr + row, tl.load(rest_ptr + row).to(tl.float64) + tl.log(total))


@triton.jit
def _mass(
    rows_ptr,  # [M, D]
    slots_ptr,  # [G, 3] int32
    k_ptr,  # [S, C, D]
    scales_ptr,  # [S, C]
    table_ptr,  # [tiles, 3] int32
    lse_ptr,  # [M] float64, base e
    weights_ptr,  # [M] float32
    mass_ptr,  # [tokens] float32
    scale,
    softcap,
    k_slot,
    k_token,
    s_slot,
    G: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SCALED: tl.constexpr,
    HAS_CAP: tl.constexpr,
):
    tile = tl.program_id(0)
    start, length = tl.load(table_ptr + 3 * tile), tl.load(table_ptr + 3 * tile + 1)
    HALF: tl.constexpr = rows_ptr.dtype.element_ty
    d = tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    unit = unit_of(scale, HAS_CAP)
    acc = tl.zeros([BLOCK_N], tl.float32)
    # All slots in one program: their sum is then always taken in the same order, and nothing is written twice.
    for group in range(G):
        slot = tl.load(slots_ptr + 3 * group)
        first, last = tl.load(slots_ptr + 3 * group + 1), tl.load(slots_ptr + 3 * group + 2)
        k, factor, _ = _keys(k_ptr, scales_ptr, slot, start, length, k_slot, k_token, s_slot, D, BLOCK_D, BLOCK_N,
                             SCALED, HALF)  # fmt: skip
        for row0 in range(first, last, BLOCK_R):
            row = row0 + tl.arange(0, BLOCK_R)
            inside = row < last
            q = tl.load(rows_ptr + row[None, :] * D + d[:, None], mask=inside[None, :] & (d < D)[:, None], other=0.0)
            lse = (tl.load(lse_ptr + row, mask=inside, other=float("inf")) * LOG2E).to(tl.float32)
            weight = tl.load(weights_ptr + row, mask=inside, other=0.0)
            x = logits(tl.dot(k, q) * factor[:, None], scale, softcap, HAS_CAP) * unit - lse[None, :]
            acc += tl.sum(tl.exp2(x) * weight[None, :], 1)
    tl.store(mass_ptr + tl.load(table_ptr + 3 * tile + 2) + n, acc, mask=n < length)


# Tiles are a passage's size: a wider one would be mostly empty on passages that lie scattered.
_LAUNCHES = (Launch(128, 4, 1), Launch(64, 4, 1), Launch(256, 8, 1))
_WIDE_HEADS = (Launch(64, 4, 1), Launch(32, 4, 1))


@lru_cache(maxsize=64)
def _groups(slots: tuple[int, ...], rows: int, device: torch.device) -> Tensor:
    """[G, 3] int32: each slot that is asked, its first row and one past its last."""
    found = sorted(set(slots))
    ends = [(slots.index(s) * rows, (len(slots) - slots[::-1].index(s)) * rows) for s in found]
    return torch.tensor([(s, *end) for s, end in zip(found, ends, strict=True)], dtype=torch.int32).to(device)


def _launches(dim: int) -> tuple[Launch, ...]:
    return _LAUNCHES if dim <= 128 else _WIDE_HEADS


def key_lse(
    rows: Tensor,
    slots: Sequence[int],
    keys: Tensor,
    scales: Tensor | None,
    ranges: KeyRanges,
    rest: Tensor,
    scale: float,
    softcap: float | None,
    *,
    joined: bool,
) -> Tensor:
    """Launch the first pass: [P, R] float64, of the keys alone or (`joined`) together with `rest`."""
    pairs, count, dim = rows.shape
    total = pairs * count
    flat, rest = rows.contiguous(), rest.float().contiguous()
    keys = keys if keys.stride(2) == 1 else keys.contiguous()
    groups = _groups(tuple(slots), count, rows.device)
    side = keys if scales is None else scales
    lse = torch.empty(pairs, count, dtype=torch.float64, device=rows.device)
    if not ranges.tokens:
        return lse.copy_(rest) if joined else lse.fill_(-torch.inf)

    def run(launch: Launch) -> None:
        table = ranges.table(launch.block, rows.device)
        tiles = table.shape[0]
        part = torch.empty(tiles, total, dtype=torch.float64, device=rows.device)
        _lse[(tiles, groups.shape[0])](
            flat, groups, keys, side, table, rest, part, total, scale, softcap or 0.0, keys.stride(0), keys.stride(1),
            side.stride(0), D=dim, BLOCK_D=max(16, next_power_of_2(dim)), BLOCK_R=_row_tile(slots, count),
            BLOCK_N=launch.block, SCALED=scales is not None, HAS_CAP=softcap is not None, **launch.options,
        )  # fmt: skip
        _total[(total,)](part, rest, lse, tiles, total, JOINED=joined, BLOCK=1024, num_warps=4)

    run(choose(_key("lse", rows, slots, keys, ranges), _launches(dim), run))
    return lse


def key_mass(
    rows: Tensor,
    slots: Sequence[int],
    keys: Tensor,
    scales: Tensor | None,
    ranges: KeyRanges,
    lse: Tensor,
    weights: Tensor,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Launch the second pass: [tokens] float32."""
    count, dim = rows.shape[1:]
    flat, lse, weights = rows.contiguous(), lse.double().contiguous(), weights.float().contiguous()
    keys = keys if keys.stride(2) == 1 else keys.contiguous()
    groups = _groups(tuple(slots), count, rows.device)
    side = keys if scales is None else scales
    mass = torch.empty(ranges.tokens, dtype=torch.float32, device=rows.device)
    if not ranges.tokens:
        return mass

    def run(launch: Launch) -> None:
        table = ranges.table(launch.block, rows.device)
        _mass[(table.shape[0],)](
            flat, groups, keys, side, table, lse, weights, mass, scale, softcap or 0.0, keys.stride(0), keys.stride(1),
            side.stride(0), G=groups.shape[0], D=dim, BLOCK_D=max(16, next_power_of_2(dim)),
            BLOCK_R=_row_tile(slots, count), BLOCK_N=launch.block, SCALED=scales is not None,
            HAS_CAP=softcap is not None, **launch.options,
        )  # fmt: skip

    run(choose(_key("mass", rows, slots, keys, ranges), _launches(dim), run))
    return mass


def _row_tile(slots: Sequence[int], rows: int) -> int:
    """Rows of one product: those of the slot that most pairs look at, at most 64."""
    most = max(slots.count(slot) for slot in set(slots)) * rows
    return min(64, max(16, next_power_of_2(most)))


def _key(name: str, rows: Tensor, slots: Sequence[int], keys: Tensor, ranges: KeyRanges) -> tuple[object, ...]:
    rounded = next_power_of_2(ranges.tokens)
    return (name, rows.dtype, keys.dtype, rows.device, tuple(slots), _row_tile(slots, rows.shape[1]), rows.shape[2],
            rounded)  # fmt: skip
