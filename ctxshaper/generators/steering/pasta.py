"""PASTA (Zhang et al., Tell Your Model Where to Attend, arXiv 2311.02262)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ctxshaper.errors import InvalidInputError
from ctxshaper.generators.steering.base import HeadSteering, Seen

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PASTA(HeadSteering):
    """Lets the chosen heads look less at all that is not marked: log alpha is added to its scores.

    What was weighted w outside is weighted alpha * w before the row is brought to a sum of 1 again. The paper chooses
    heads by steering each alone on a task; here they are the contextual heads (arXiv 2503.23306).

    Attributes:
        alpha: in (0, 1]; 1 changes nothing. 0.01 is the paper's.

    Raises:
        InvalidInputError: an alpha out of range.
    """

    needs_marks: ClassVar[bool] = True
    alpha: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.alpha <= 1:
            raise InvalidInputError(f"alpha must lie in (0, 1], but got {self.alpha!r:.80}")

    def scores(self, scores: Tensor, seen: Seen) -> Tensor:
        """See the base."""
        return scores + math.log(self.alpha) * ~seen.marked[:, None, None, :]
