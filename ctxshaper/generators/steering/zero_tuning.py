"""ZeroTuning (arXiv 2505.11739): the weight on the first token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxshaper.errors import InvalidInputError
from ctxshaper.generators.steering.base import HeadSteering, Seen

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ZeroTuning(HeadSteering):
    """Multiplies the weight that the chosen heads leave on the first token, and brings the row to a sum of 1 again.

    Less on the first token, where attention goes that finds nothing, is more on all else. Needs no marks.

    Attributes:
        rate: at least 0; 1 changes nothing. The paper searches it by model and task.

    Raises:
        InvalidInputError: a rate out of range.
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < math.inf:
            raise InvalidInputError(f"rate must be a number from 0, but got {self.rate!r:.80}")

    def weights(self, weights: Tensor, seen: Seen) -> Tensor:
        """See the base."""
        # A row whose only key is the first token keeps it.
        first = (seen.positions[:, None, None, :] == 0) & (seen.own[:, None, :, None] > 0)
        changed = weights.where(~first, weights * self.rate)
        return changed / changed.sum(-1, keepdim=True).clamp(min=1e-20)
