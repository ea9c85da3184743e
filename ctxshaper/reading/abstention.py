"""How likely any passage answers at all, from what the heads of a profile attend to: what `auto` abstains by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxshaper.errors import InvalidInputError

# The share of attention of a unit that gets none.
_LEAST = 1e-6
# Beyond this a probability is 0 or 1 to the last digit.
_SURE = 50.0


@dataclass(frozen=True, slots=True)
class Abstention:
    """Weights that turn two signals into the probability that the passages answer: logistic regression.

    They belong to a head profile, and the second also to the embedded embedding model. `ctxshaper calibrate` fits them
    on questions with their passages, without those that hold the evidence, and with another question's passages, so
    that half of the weight lies on contexts that answer.

    Attributes:
        attention: intercept, and the weight of the log of the best unit's share of attention over the prefix's.
        with_cosine: intercept, the same, and the weight of the best cosine of the query and a unit; None where no
            embeddings were there to fit it with.
    """

    attention: tuple[float, float]
    with_cosine: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        for weights, count in ((self.attention, 2), (self.with_cosine, 3)):
            if weights is not None and (len(weights) != count or not all(map(math.isfinite, weights))):
                raise InvalidInputError(f"abstention needs {count} finite weights here, but got {weights!r:.80}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Abstention:
        """The weights from plain data."""
        cosine = data.get("with_cosine")
        return cls(tuple(data["attention"]), None if cosine is None else tuple(cosine))

    def answerable(self, best_unit: float, on_prefix: float, cosine: float | None) -> float:
        """The probability that the passages answer the query, where half of all contexts do.

        Both signals hold for one passage as for a hundred: they are the best unit's, and the attention that a unit
        draws is compared with what stays on the prefix in the same softmax.

        Args:
            best_unit: the largest share of the query's attention that any unit draws.
            on_prefix: the share that stays on the prompt's prefix.
            cosine: the best cosine of the query and a unit, or None without embeddings.
        """
        given = [drawn(best_unit, on_prefix)]
        weights: tuple[float, ...] = self.attention
        if cosine is not None and self.with_cosine is not None:
            weights = self.with_cosine
            given.append(cosine)
        odds = weights[0] + sum(weight * value for weight, value in zip(weights[1:], given, strict=True))
        return 1 / (1 + math.exp(-max(min(odds, _SURE), -_SURE)))


def drawn(best_unit: float, on_prefix: float) -> float:
    """The log of the best unit's share of the query's attention over the share that stays on the prefix."""
    return math.log(max(best_unit, _LEAST) / max(on_prefix, _LEAST))
