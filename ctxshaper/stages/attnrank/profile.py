"""What is known about a generator's attention to positions: a small file that a stage can follow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ctxshaper.data.json import parse_json
from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Gain:
    """What the profile's order gains over another order, on the same questions.

    Attributes:
        gain: mean difference per question, in the unit of the measure; above 0 is for the profile's order.
        low: lower end of the 95% confidence interval.
        high: upper end.
        p: two-sided p-value of a paired permutation test.
    """

    gain: float
    low: float
    high: float
    p: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.gain, self.low, self.high, self.p))):
            raise InvalidInputError(f"a gain needs finite numbers, but got {self}")

    @property
    def pays(self) -> bool:
        """Whether the gain is positive and beyond noise (p < 0.05)."""
        return self.gain > 0 and self.p < 0.05


@dataclass(frozen=True, slots=True)
class PositionProfile:
    """How much a generator makes of each of K slots.

    Attributes:
        generator: its name.
        attention: [K] share of each slot, first slot first; of the attention, or where that cannot be seen, of the
            measured success of answering from that slot.
        layer: the layer that was read, counted from 0; None where answers were measured.
        measure: what the gains are measured in: "log-likelihood" or "accuracy".
        gains: by the order that it was compared with ("unchanged": as the data had it, "best_first", "best_last");
            empty: not measured.
        provenance: how the profile was made; plain JSON data.

    Raises:
        InvalidInputError: no slots, or shares that are negative or not numbers.
    """

    generator: str
    attention: tuple[float, ...]
    layer: int | None = None
    measure: str = "log-likelihood"
    gains: Mapping[str, Gain] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.attention or not all(math.isfinite(a) and a >= 0 for a in self.attention):
            raise InvalidInputError(f"a position profile needs shares of at least 0 per slot, but got {self.attention}")

    @property
    def slots(self) -> int:
        """K."""
        return len(self.attention)

    @property
    def order(self) -> tuple[int, ...]:
        """Slots by attention, most attended first, counted from 0; of equal ones the later, which decoders favour."""
        return order_of(self.attention)

    @property
    def pays(self) -> bool:
        """Whether its order was measured against best first, which is what a stage is given, and gains beyond noise."""
        return "best_first" in self.gains and self.gains["best_first"].pays

    def for_slots(self, slots: int) -> tuple[float, ...]:
        """The curve stretched or squeezed to another number of slots: linear between its points, ends on ends.

        Attention is a curve over the relative place in the context (high at the ends), so its ends must stay ends.
        """
        if slots == self.slots:
            return self.attention
        last, result = self.slots - 1, []
        for slot in range(slots):
            place = last * slot / (slots - 1) if slots > 1 else float(last)
            low = min(int(place), last)
            high = min(low + 1, last)
            result.append(self.attention[low] + (place - low) * (self.attention[high] - self.attention[low]))
        return tuple(result)

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON; the slot order is written too, for people."""
        data = {**asdict(self), "slots": self.slots, "order": self.order}
        Path(path).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> PositionProfile:
        """Read a profile that `save` wrote.

        Raises:
            InvalidInputError: the file cannot be read or is no position profile.
        """
        try:
            data = parse_json(Path(path).read_bytes(), str(path))
            derived = {key: data.pop(key, None) for key in ("slots", "order")}
            gains = {name: Gain(**gain) for name, gain in data.pop("gains", {}).items()}
            profile = cls(**{**data, "attention": tuple(map(float, data["attention"])), "gains": gains})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInputError(
                f"{path} is not a position profile: {error}; make one with `ctxshaper profile`"
            ) from error
        if derived["slots"] not in (None, profile.slots) or derived["order"] not in (None, list(profile.order)):
            raise InvalidInputError(f"{path} contradicts itself: slots and order must follow from attention")
        return profile


def order_of(attention: tuple[float, ...]) -> tuple[int, ...]:
    """Slots from the most attended to the least; of equal ones the later first."""
    return tuple(sorted(range(len(attention)), key=lambda slot: (-attention[slot], -slot)))
