"""What a query looks at in passages that were read before: one softmax over keys rounded to 8 bits.

A query's row r at a query head ("pair" p, whose keys lie in slot s(p)) is held against the keys of all passages; what
the prompt's prefix and the query's own keys take of the same softmax is known beforehand, as the log-sum-exp `rest`::

    x[p, r, t] = scale * rows[p, r] . (scales[s(p), t] * keys[s(p), t])       soft-capped where the model does so
    lse[p, r]  = log(exp(rest[p, r]) + sum_t exp(x[p, r, t]))
    mass[t]    = sum over p, r of weights[p, r] * exp(x[p, r, t] - lse[p, r])

The two lines are two phases, so that keys may lie on many machines: each gives the `key_lse` of its own keys,
`merge_lse` puts them together, and each scores its own tokens by `key_mass` under the whole. This merge is exact (the
sharded softmax of Star Attention, arXiv 2411.17116, without its approximation).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, half_precision_reason, head_dim_reason, use_triton
from ctxshaper.kernels.key_blocks import KeyBlocks
from ctxshaper.kernels.key_ranges import KeyRanges


def key_scores(
    rows: Tensor,
    slots: Sequence[int],
    keys: Tensor,
    scales: Tensor | None,
    ranges: KeyRanges,
    rest: Tensor,
    weights: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Score every token of the ranges by the attention that it gets from a query's rows.

    The same keys give the same scores, bit for bit on a CPU, wherever and in whatever order they lie in the arena.

    Args:
        rows: [P, R, D] queries after rotary embedding: float32, or on a GPU bfloat16 or float16.
        slots: [P] slot of each pair, not decreasing.
        keys: [S, C, D] arena of keys after rotary embedding: int8, or a float type. Places outside of the ranges may
            hold anything.
        scales: [S, C] float factors of int8 keys; None for keys of a float type.
        ranges: where the passages lie in the arena.
        rest: [P, R] float32, finite: log-sum-exp of what else takes part in each row's softmax.
        weights: [P, R] float32.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        mass [ranges.tokens] float32, and lse [P, R] float64, `rest` included.

    Raises:
        InvalidInputError: shapes or types that do not fit together, ranges beyond the arena, or a kernel asked for by
            name that cannot take the inputs.
        DeadlineError: the current request's time is over (seen between blocks on a CPU).
    """
    _check(rows, slots, keys, scales, ranges, rest, weights)
    if _by_kernel(rows, keys, backend):
        from ctxshaper.kernels.triton import key_scores as kernel

        lse = kernel.key_lse(rows, slots, keys, scales, ranges, rest, scale, softcap, joined=True)
        return kernel.key_mass(rows, slots, keys, scales, ranges, lse, weights, scale, softcap), lse
    blocks = KeyBlocks(rows, slots, keys, scales, ranges, rest, scale, softcap)
    lse = merge_lse([rest, blocks.lse()])
    return blocks.mass(lse, weights), lse


def key_lse(
    rows: Tensor,
    slots: Sequence[int],
    keys: Tensor,
    scales: Tensor | None,
    ranges: KeyRanges,
    rest: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """First phase of `key_scores` over a part of the keys; arguments as there.

    Returns:
        [P, R] float64, log-sum-exp of these keys alone, `rest` not included. Logits more than 87 below `rest` count as
        nothing (their share of the softmax is under 1e-37): -inf where all are.

    Raises:
        InvalidInputError: as `key_scores`.
        DeadlineError: as `key_scores`.
    """
    _check(rows, slots, keys, scales, ranges, rest, rest)
    if _by_kernel(rows, keys, backend):
        from ctxshaper.kernels.triton import key_scores as kernel

        return kernel.key_lse(rows, slots, keys, scales, ranges, rest, scale, softcap, joined=False)
    return KeyBlocks(rows, slots, keys, scales, ranges, rest, scale, softcap).lse()


def key_mass(
    rows: Tensor,
    slots: Sequence[int],
    keys: Tensor,
    scales: Tensor | None,
    ranges: KeyRanges,
    lse: Tensor,
    weights: Tensor,
    *,
    scale: float,
    softcap: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Second phase of `key_scores`, under a log-sum-exp of the whole; other arguments as there.

    Args:
        rows: as in `key_scores`.
        slots: as in `key_scores`.
        keys: as in `key_scores`.
        scales: as in `key_scores`.
        ranges: as in `key_scores`.
        lse: [P, R] what `merge_lse` gives for `rest` and the parts of all shards.
        weights: [P, R] float32.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        [ranges.tokens] float32.

    Raises:
        InvalidInputError: as `key_scores`.
        DeadlineError: as `key_scores`.
    """
    _check(rows, slots, keys, scales, ranges, lse, weights)
    if _by_kernel(rows, keys, backend):
        from ctxshaper.kernels.triton import key_scores as kernel

        return kernel.key_mass(rows, slots, keys, scales, ranges, lse, weights, scale, softcap)
    return KeyBlocks(rows, slots, keys, scales, ranges, lse, scale, softcap).mass(lse, weights)


def merge_lse(parts: Sequence[Tensor]) -> Tensor:
    """Join the log-sum-exps of disjoint parts of one softmax: log of the sum of their exponentials, in float64."""
    return torch.logsumexp(torch.stack([part.double() for part in parts]), 0)


def reference(
    rows: Tensor,
    slots: Sequence[int],
    keys: Tensor,
    scales: Tensor | None,
    ranges: Sequence[tuple[int, int]],
    rest: Tensor,
    weights: Tensor,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Compute `key_scores` in plain torch and float64, from a list of ranges: what every other path is held to."""
    places = torch.cat([torch.arange(a, a + n) for a, n in ranges] or [torch.zeros(0, dtype=torch.long)])
    index = torch.tensor(list(slots), device=keys.device)
    own = keys[index][:, places.to(keys.device)].double()  # [P, n, D]
    if scales is not None:
        own = own * scales[index][:, places.to(keys.device), None].double()
    x = rows.double() @ own.transpose(1, 2) * scale  # [P, R, n]
    if softcap is not None:
        x = softcap * torch.tanh(x / softcap)
    lse = torch.logsumexp(torch.cat((rest.double()[..., None], x), -1), -1)
    mass = (weights.double()[..., None] * torch.exp(x - lse[..., None])).sum((0, 1))
    return mass.float(), lse


def _by_kernel(rows: Tensor, keys: Tensor, backend: Backend) -> bool:
    half = half_precision_reason(rows) if keys.dtype == torch.int8 else half_precision_reason(rows, keys)
    return use_triton("key_scores", backend, half or head_dim_reason(rows.shape[2]), rows)


def _check(
    rows: Tensor, slots: Sequence[int], keys: Tensor, scales: Tensor | None, ranges: KeyRanges, *sides: Tensor
) -> None:
    if rows.dim() != 3 or keys.dim() != 3 or rows.shape[2] != keys.shape[2] or 0 in rows.shape:
        raise InvalidInputError(
            f"rows are {list(rows.shape)} and keys {list(keys.shape)}; needed are [P, R, D], none of them 0, and "
            f"[S, C, D]."
        )
    pairs = list(slots)
    if len(pairs) != rows.shape[0] or pairs != sorted(pairs) or pairs[0] < 0 or pairs[-1] >= keys.shape[0]:
        raise InvalidInputError(
            f"slots are {pairs} for {rows.shape[0]} pairs and {keys.shape[0]} slots; needed is one for each pair, not "
            f"decreasing."
        )
    if (keys.dtype == torch.int8) != (scales is not None) or not (keys.dtype == torch.int8 or keys.is_floating_point()):
        raise InvalidInputError(
            f"keys are {keys.dtype} and scales {'absent' if scales is None else 'given'}; int8 keys need scales, keys "
            f"of a float type have none."
        )
    if scales is not None and scales.shape != keys.shape[:2]:
        raise InvalidInputError(f"scales are {list(scales.shape)}; needed is {list(keys.shape[:2])}.")
    for side in sides:
        if side.shape != rows.shape[:2]:
            raise InvalidInputError(
                f"rest, lse or weights are {list(side.shape)}; needed is [P, R] = {list(rows.shape[:2])}."
            )
    if ranges.end > min(keys.shape[1], math.inf if keys.device.type == "cpu" else 2**31 - 1):
        raise InvalidInputError(f"the ranges reach to {ranges.end}, but the arena holds {keys.shape[1]} tokens a slot.")
