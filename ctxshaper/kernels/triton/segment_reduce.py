"""Triton kernel of `ctxshaper.kernels.segment_reduce`: one program a segment, any length."""

import torch
import triton
import triton.language as tl
from torch import Tensor

_OPERATIONS = {"sum": 0, "mean": 1, "max": 2, "top": 3}


@triton.jit
def _reduce(
    mass_ptr,  # [T] float32
    starts_ptr,  # [S]
    ends_ptr,  # [S]
    out_ptr,  # [S] float32
    n,
    OP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    i = tl.program_id(0)
    start = tl.load(starts_ptr + i)
    end = tl.load(ends_ptr + i)
    lane = tl.arange(0, BLOCK)
    if OP == 3:
        # Each turn takes the largest value below the last one, with all its ties: exact, and needs no sorting.
        left = tl.minimum(n, (end - start).to(tl.int32)).to(tl.float32)
        taken = left
        total = 0.0
        below = float("inf")
        while left > 0.0:
            top = -float("inf")
            for at in range(start, end, BLOCK):
                x = tl.load(mass_ptr + at + lane, mask=at + lane < end, other=-float("inf"))
                top = tl.maximum(top, tl.max(tl.where(x < below, x, -float("inf")), 0))
            ties = 0.0
            for at in range(start, end, BLOCK):
                x = tl.load(mass_ptr + at + lane, mask=at + lane < end, other=float("inf"))
                ties += tl.sum((x == top).to(tl.float32), 0)
            count = tl.where(ties > 0.0, tl.minimum(ties, left), left)  # NaN alone has no ties; it must end too
            total += count * top
            left -= count
            below = top
        tl.store(out_ptr + i, total / tl.maximum(taken, 1.0))
    else:
        low: tl.constexpr = -float("inf") if OP == 2 else 0.0
        acc = tl.full([BLOCK], low, tl.float32)
        for at in range(start, end, BLOCK):
            x = tl.load(mass_ptr + at + lane, mask=at + lane < end, other=low)
            if OP == 2:
                acc = tl.maximum(acc, x)
            else:
                acc += x
        if OP == 2:
            value = tl.where(end > start, tl.max(acc, 0), 0.0)
        else:
            value = tl.sum(acc, 0)
        if OP == 1:
            value = value / tl.maximum((end - start).to(tl.float32), 1.0)
        tl.store(out_ptr + i, value)


def segment_reduce(mass: Tensor, starts: Tensor, ends: Tensor, op: str, n: int) -> Tensor:
    """Launch the kernel; arguments as in `ctxshaper.kernels.segment_reduce`, checked there."""
    out = torch.empty(starts.numel(), dtype=torch.float32, device=mass.device)
    if out.numel():
        mass, starts, ends = mass.contiguous(), starts.contiguous(), ends.contiguous()
        _reduce[(out.numel(),)](mass, starts, ends, out, n, OP=_OPERATIONS[op], BLOCK=128, num_warps=1)
    return out
