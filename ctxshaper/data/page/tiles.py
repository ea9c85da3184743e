"""A passage's source cut where anything changes: what is kept, what supports what was written, what stages decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import Generic, NamedTuple, TypeVar

from ctxshaper.data.passages import Passage
from ctxshaper.data.pieces import Kept, Written
from ctxshaper.data.spans import merge_spans
from ctxshaper.data.trace import Decision, Trace

_Value = TypeVar("_Value")


class Judged(NamedTuple):
    """What one stage decided about some units of a passage.

    Attributes:
        stage: its name.
        decisions: in any order.
    """

    stage: str
    decisions: list[Decision]


class Tile(NamedTuple):
    """A range of a passage's source in which nothing changes.

    Attributes:
        start: its first character.
        end: behind its last.
        kept: whether the generator reads it.
        supports: whether it supports something that was written.
        said: what was decided about it, stage by stage.
    """

    start: int
    end: int
    kept: bool
    supports: bool
    said: tuple[tuple[str, Decision], ...]


def judged_of(trace: Trace) -> dict[int, list[Judged]]:
    """By a passage's rank and then by stage, what was decided."""
    found: dict[int, list[Judged]] = {}
    for stage in trace.stages:
        rows: dict[int, Judged] = {}
        for decision in stage.decisions:
            rows.setdefault(decision.passage, Judged(stage.stage, [])).decisions.append(decision)
        for rank, row in rows.items():
            found.setdefault(rank, []).append(row)
    return found


def tiles(passage: Passage, judged: Iterable[Judged]) -> Iterator[Tile]:
    """The source from its first character to its last.

    Tiles times stages are the work.

    Args:
        passage: with the pieces that are left of it.
        judged: by stage, what it decided about this passage.
    """
    size = len(passage.source)
    support = [span for piece in passage.pieces if isinstance(piece, Written) for span in piece.support]
    kept = _Layer([(p.span.start, p.span.end, True) for p in passage.pieces if isinstance(p, Kept)])
    supports = _Layer([(span.start, span.end, True) for span in merge_spans(support)])
    verdicts = [_Layer(_disjoint(one, size)) for one in judged]
    cuts = {0, size, *(span.start for span in support)}  # where support begins, a link leads to
    for rows in (kept.rows, supports.rows, *(layer.rows for layer in verdicts)):
        cuts.update(border for row in rows for border in row[:2])
    borders = sorted(cuts)
    for start, end in pairwise(borders):
        said = tuple(found for layer in verdicts if (found := layer.at(start)) is not None)
        yield Tile(start, end, bool(kept.at(start)), bool(supports.at(start)), said)


def _disjoint(judged: Judged, size: int) -> list[tuple[int, int, tuple[str, Decision]]]:
    """One stage's decisions within the source; where two overlap, the one that begins first holds."""
    rows, reached = [], 0
    for decision in sorted(judged.decisions, key=attrgetter("span.start")):
        start, end = max(decision.span.start, reached), min(decision.span.end, size)
        if start < end:
            rows.append((start, end, (judged.stage, decision)))
            reached = end
    return rows


class _Layer(Generic[_Value]):
    """Sorted disjoint ranges with a value each, asked at places that never go back."""

    def __init__(self, rows: Sequence[tuple[int, int, _Value]]) -> None:
        self.rows = rows
        self._next = 0

    def at(self, place: int) -> _Value | None:
        """The value of the range around a place."""
        while self._next < len(self.rows) and self.rows[self._next][1] <= place:
            self._next += 1
        if self._next < len(self.rows) and self.rows[self._next][0] <= place:
            return self.rows[self._next][2]
        return None
