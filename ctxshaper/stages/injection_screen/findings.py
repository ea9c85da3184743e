"""What a detector found: a score for every unit of text, and which passages that flags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxshaper.data import Span, merge_spans
from ctxshaper.stages.units import Unit


@dataclass(frozen=True)
class Findings:
    """The scores of one context's units.

    Attributes:
        scores: one per unit, higher is more suspect.
        headings: one per passage, that of its title; minus infinity where there is none.
        threshold: units and titles that score more are taken for instructions to the model.
    """

    scores: Sequence[float]
    headings: Sequence[float]
    threshold: float


@dataclass(frozen=True)
class Flag:
    """What is suspicious about one passage.

    Attributes:
        units: its units above the threshold.
        scores: theirs.
        worst: the highest score of all, its title's included.
        title: whether its title is above the threshold.
    """

    units: tuple[Unit, ...]
    scores: tuple[float, ...]
    worst: float
    title: bool

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where the units lie in the passage's source."""
        return merge_spans(unit.span for unit in self.units)


def flags(found: Findings, units: Sequence[Unit], limit: float) -> dict[int, Flag]:
    """By index, the passages with a unit or a title above the limit, in their order."""
    places: dict[int, list[int]] = {}
    for place, score in enumerate(found.scores):
        if score > limit:
            places.setdefault(units[place].passage, []).append(place)
    for passage, score in enumerate(found.headings):
        if score > limit:
            places.setdefault(passage, [])
    flagged = {}
    for passage in sorted(places):
        own, heading = places[passage], found.headings[passage]
        scores = tuple(found.scores[place] for place in own)
        flagged[passage] = Flag(
            tuple(units[place] for place in own), scores, max(heading, *scores, -1e9), heading > limit
        )
    return flagged
