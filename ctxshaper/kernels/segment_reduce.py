"""Token mass to the scores of segments (sentences, passages) without leaving the device.

For segment i with the tokens ``starts[i] .. ends[i] - 1``: their sum, mean, maximum, or the mean of their n largest
values (of all of them where there are fewer than n). An empty segment scores 0.
"""

from typing import Literal

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, use_triton

Operation = Literal["sum", "mean", "max", "top"]
OPERATIONS = ("sum", "mean", "max", "top")


def segment_reduce(
    mass: Tensor, starts: Tensor, ends: Tensor, op: Operation = "mean", *, n: int = 8, backend: Backend = "auto"
) -> Tensor:
    """Reduce token values to one value for each segment.

    Args:
        mass: [T] float32 values of tokens.
        starts: [S] int32 or int64, first token of each segment; segments may overlap and come in any order.
        ends: [S] likewise, one past the last token; ``0 <= start <= end <= T``.
        op: ``"sum"``, ``"mean"``, ``"max"`` or ``"top"`` (mean of the `n` largest).
        n: how many values ``"top"`` averages.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        [S] float32.

    Raises:
        InvalidInputError: an unknown operation, n below 1, or shapes that do not fit together.
    """
    if op not in OPERATIONS:
        raise InvalidInputError(f"op is {op!r}; allowed are {', '.join(map(repr, OPERATIONS))}.")
    if n < 1:
        raise InvalidInputError(f"n is {n}; it must be at least 1.")
    if mass.dim() != 1 or starts.dim() != 1 or starts.shape != ends.shape:
        raise InvalidInputError(
            f"mass is {list(mass.shape)}, starts {list(starts.shape)}, ends {list(ends.shape)}; needed are [T], [S] "
            f"and [S]."
        )
    reason = None if mass.dtype == torch.float32 else f"mass is {mass.dtype} (the kernel takes float32)"
    if use_triton("segment_reduce", backend, reason, mass):
        from ctxshaper.kernels.triton import segment_reduce as kernel

        return kernel.segment_reduce(mass, starts, ends, op, n)
    return reference(mass, starts, ends, op, n)


def reference(mass: Tensor, starts: Tensor, ends: Tensor, op: Operation, n: int) -> Tensor:
    """Compute `segment_reduce` in plain torch."""
    lengths = (ends - starts).long()
    tokens = int(lengths.sum())
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=mass.device), lengths)
    first = lengths.cumsum(0) - lengths
    at = torch.arange(tokens, device=mass.device) - first[owner] + starts.long()[owner]
    values = mass[at].float()
    zeros = torch.zeros(len(lengths), device=mass.device)
    if op == "max":
        return zeros.scatter_reduce(0, owner, values, "amax", include_self=False)
    if op == "top":
        # Largest first within each segment; a stable sort by owner keeps that order.
        order = values.argsort(descending=True)
        order = order[owner[order].argsort(stable=True)]
        values = torch.where(torch.arange(tokens, device=mass.device) - first[owner] < n, values[order], 0.0)
        lengths = lengths.clamp(max=n)
    total = zeros.index_add(0, owner, values)
    return total if op == "sum" else total / lengths.clamp(min=1)
