"""`key_scores` in torch, block by block: what runs on a CPU, and anywhere without Triton.

On a CPU that multiplies 8-bit integers natively (VNNI), keys are never widened. A row is split into two 8-bit parts,
x = step * (256 * high + low), and both are multiplied as integers: rows keep 16 bits, the products are exact, and on a
Xeon it takes 13 ns a token and slot where widening the keys to float32 takes 36, to bfloat16 43 (16 rows of 64).

Scores do not depend on where a key lies. Products are exact; every exponential is taken relative to `rest`, which no
block changes; sums over tokens are in float64. (Two rows of weights instead of one keep the last product a matrix
product, whose sums run in the same order for every column; a vector's do not.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby

import torch
from torch import Tensor

from ctxshaper.data import deadline
from ctxshaper.kernels.key_ranges import Block, KeyRanges

# Exponentials of the first phase that are kept for the second; what is beyond is computed again.
_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class _Slot:
    """The rows that look at one slot: M of them, those of pairs `pairs`."""

    number: int
    pairs: slice
    rows: Tensor  # [M, D] float32, or int8 [2 * M, D]: the high parts, then the low ones
    step: float  # from products to logits


class KeyBlocks:
    """One query against the keys of an arena; arguments as in `ctxshaper.kernels.key_scores`.

    Args:
        rows: [P, R, D].
        slots: [P].
        keys: [S, C, D].
        scales: [S, C] or None.
        ranges: where the passages lie.
        shift: [P, R] that exponentials are taken relative to: about as large as the log-sum-exp of the whole.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.
    """

    def __init__(
        self,
        rows: Tensor,
        slots: Sequence[int],
        keys: Tensor,
        scales: Tensor | None,
        ranges: KeyRanges,
        shift: Tensor,
        scale: float,
        softcap: float | None,
    ) -> None:
        self._keys, self._scales, self._ranges, self._softcap = keys, scales, ranges, softcap
        self._shift = shift.float()
        # Rows that are not numbers must show in the scores; as integers they would look like numbers.
        exact = keys.dtype == torch.int8 and integer_products(keys.device.type) and bool(rows.isfinite().all())
        self._slots = []
        for number, group in groupby(range(len(slots)), lambda pair: slots[pair]):
            own = list(group)
            pairs = slice(own[0], own[-1] + 1)
            flat = rows[pairs].float().flatten(0, 1)
            parts, step = _halves(flat) if exact else (flat, 1.0)
            self._slots.append(_Slot(number, pairs, parts, step * scale))
        self._kept: dict[tuple[int, int], Tensor] = {}

    def lse(self) -> Tensor:
        """[P, R] float64, log-sum-exp of the ranges' keys alone."""
        sums = self._sums()
        if not bool(sums.isfinite().all()):
            # A logit 88 above the shift: no trained model was seen to do it, but it must not go wrong.
            self._shift = torch.maximum(self._shift, self._peaks())
            self._kept.clear()
            sums = self._sums()
        return self._shift.double() + sums.log()

    def mass(self, lse: Tensor, weights: Tensor) -> Tensor:
        """[tokens] float32 under a log-sum-exp of the whole, [P, R]."""
        if bool((self._shift - lse).isnan().any() | (lse - self._shift > 80).any()):
            self._kept.clear()  # taken relative to something too far away to be rescaled
            self._shift = lse.float()
        factors = (weights.double() * torch.exp(self._shift.double() - lse.double())).float()
        mass = torch.zeros(self._ranges.tokens, device=self._keys.device)
        for i, block in enumerate(self._ranges.blocks):
            deadline.check()
            for slot in self._slots:
                values = self._kept.pop((i, slot.number), None)
                if values is None:
                    values = self._exponentials(slot, block)
                twice = factors[slot.pairs].reshape(1, -1).expand(2, -1)
                mass[block.tokens] += (twice @ values)[0]
        return mass

    def _sums(self) -> Tensor:
        sums = torch.zeros(self._shift.shape, dtype=torch.float64, device=self._keys.device)
        room = _KEPT_BYTES
        for i, block in enumerate(self._ranges.blocks):
            deadline.check()
            for slot in self._slots:
                values = self._exponentials(slot, block)
                sums[slot.pairs] += values.sum(1, dtype=torch.float64).view_as(sums[slot.pairs])
                if values.nbytes <= room:
                    self._kept[i, slot.number] = values
                    room -= values.nbytes
        return sums

    def _peaks(self) -> Tensor:
        peaks = torch.full_like(self._shift, -torch.inf)
        for block in self._ranges.blocks:
            deadline.check()
            for slot in self._slots:
                products, factors = self._products(slot, block)
                own = peaks[slot.pairs]
                highest = self._capped(products * factors).amax(1).view_as(own)
                peaks[slot.pairs] = torch.maximum(own, highest)
        return peaks

    def _exponentials(self, slot: _Slot, block: Block) -> Tensor:
        """[M, n] exponentials of the logits, relative to the shift."""
        products, factors = self._products(slot, block)
        below = -self._shift[slot.pairs].reshape(-1, 1)
        if self._softcap is None:
            return torch.addcmul(below, products, factors, out=products).exp_()
        return self._capped(products.mul_(factors)).add_(below).exp_()

    def _capped(self, logits: Tensor) -> Tensor:
        return logits if self._softcap is None else logits.div_(self._softcap).tanh_().mul_(self._softcap)

    def _products(self, slot: _Slot, block: Block) -> tuple[Tensor, Tensor]:
        """[M, n] products of rows and keys, and [n] or [1] factors that make logits of them."""
        own, places = self._keys[slot.number], block.keys
        factors = torch.full((1,), slot.step, device=own.device)
        if isinstance(places, slice):
            keys = own[places]
            if self._scales is not None:
                factors = self._scales[slot.number, places].float() * slot.step
        else:
            places = places.to(own.device)
            keys = own.index_select(0, places)
            if self._scales is not None:
                factors = self._scales[slot.number].index_select(0, places).float() * slot.step
        if slot.rows.dtype != torch.int8:
            return slot.rows @ keys.float().t(), factors
        both = torch._int_mm(slot.rows, keys.t())
        high, low = both.chunk(2)
        return low.add_(high, alpha=256).float(), factors


def _halves(rows: Tensor) -> tuple[Tensor, float]:
    """Rows [M, D] as step * (256 * high + low): int8 [2 * M, D], the high parts first, and the step."""
    # 127 * 256 is the most that leaves `high` in a byte; products of D <= 256 then stay below 2**31.
    step = max(float(rows.abs().max()) / 32512, torch.finfo(torch.float32).tiny)
    whole = (rows / step).round().int()
    high = (whole + 128) >> 8
    return torch.cat((high, whole - (high << 8))).to(torch.int8), step


@cache
def integer_products(device: str) -> bool:
    """Whether this device multiplies int8 matrices fast and exactly through torch.

    Without VNNI the products are slow, and older kernels saturate; the extremes show it.
    """
    if device != "cpu" or not hasattr(torch, "_int_mm") or not torch.cpu._is_vnni_supported():
        return False
    left = torch.tensor([[-128], [127], [-1]], dtype=torch.int8).repeat(1, 256)
    right = torch.tensor([[-127], [127], [1]], dtype=torch.int8).repeat(1, 256)
    return torch.equal(torch._int_mm(left, right.t()), (left.int() @ right.int().t()))
