"""Focus Directions (arXiv 2503.23306): queries turned to what answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ctxshaper.errors import InvalidInputError
from ctxshaper.generators.steering.base import HeadSteering
from ctxshaper.generators.steering.profile import SteeringProfile

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FocusDirections(HeadSteering):
    """Adds to the queries of the contextual heads the direction, fitted by `calibrate_heads`, of passages that answer.

    The paper adds one to the keys too, which shifts each row of scores by a constant and so changes nothing. Needs no
    marks: the directions tell what is relevant by themselves.

    Attributes:
        factor: how far the queries are pushed; 0 changes nothing, 0.2 is the paper's code.

    Raises:
        InvalidInputError: a factor that is no finite number.
    """

    factor: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.factor):
            raise InvalidInputError(f"factor must be a finite number, but got {self.factor!r:.80}")

    def resolved(self, model: str, layers: int, heads: int) -> Self:
        """See the base; only heads with a direction count."""
        found = super().resolved(model, layers, heads)
        profile = found.profile or SteeringProfile(model, ())
        with_one = tuple(head for head in profile.heads if head.direction)
        if not with_one:
            raise InvalidInputError(
                f"the steering profile of {profile.model!r} has no directions; fit them by "
                "calibrate_heads(..., directions=20)"
            )
        return replace(found, profile=replace(profile, heads=with_one))

    def queries(self, layer: int, q: Tensor) -> Tensor:
        """See the base."""
        known = {(h.layer, h.head): h.direction for h in (self.profile.heads if self.profile else ())}
        pushed = q.new_tensor([known[layer, head] for head in self._by_layer[layer]])
        return q + self.factor * pushed[None, :, None, :]
