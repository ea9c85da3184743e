"""Ranges of characters of a source text, and arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of characters, `[start, end)`, of a passage's own source text.

    Raises:
        InvalidInputError: if the range is negative, runs backwards or is not made of whole numbers.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        # bool is an int to Python, and never meant as a place.
        if type(self.start) is not int or type(self.end) is not int or not 0 <= self.start <= self.end:
            raise InvalidInputError(
                f"a span needs whole numbers 0 <= start <= end, but got start={self.start!r}, end={self.end!r}"
            )

    def __len__(self) -> int:
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether the two ranges share at least one character."""
        return self.start < other.end and other.start < self.end


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort spans and join those that touch or overlap; empty ones vanish."""
    merged: list[Span] = []
    # By a number: comparing spans themselves would take most of the time.
    for span in sorted((s for s in spans if s.end > s.start), key=attrgetter("start")):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


def gaps(whole: Iterable[Span], kept: Iterable[Span]) -> list[Span]:
    """The parts of some ranges that others do not cover. Linear.

    Args:
        whole: sorted and disjoint.
        kept: sorted and disjoint.
    """
    missing: list[Span] = []
    covers = iter(kept)
    cover = next(covers, None)
    for span in whole:
        start = span.start
        while cover is not None and cover.start < span.end:
            if cover.start > start:
                missing.append(Span(start, cover.start))
            start = max(start, cover.end)
            if cover.end > span.end:
                break  # it may cover the next range too
            cover = next(covers, None)
        if start < span.end:
            missing.append(Span(start, span.end))
    return missing


def intersect(first: Iterable[Span], second: Iterable[Span]) -> tuple[Span, ...]:
    """What two sets of ranges share. Linear.

    Args:
        first: sorted and disjoint.
        second: sorted and disjoint.
    """
    ours, theirs = list(first), list(second)
    shared: list[Span] = []
    i = j = 0
    while i < len(ours) and j < len(theirs):
        start, end = max(ours[i].start, theirs[j].start), min(ours[i].end, theirs[j].end)
        if start < end:
            shared.append(Span(start, end))
        if ours[i].end < theirs[j].end:
            i += 1
        else:
            j += 1
    return tuple(shared)
