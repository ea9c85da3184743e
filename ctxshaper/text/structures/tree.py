"""A structured text as a tree: what may be kept by itself, and what comes along so that the rest is well formed."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from ctxshaper.data import Span, intersect, merge_spans

_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Container:
    """Something that opens and closes: an object, an element, a class, a fence.

    Attributes:
        open: what opens it, and is needed by whatever is kept inside; may be empty.
        close: what closes it; may be empty.
        parent: its container's place, or -1.
        comma: the place of the comma that separates it from what follows beside it, or -1.
    """

    open: Span
    close: Span
    parent: int = -1
    comma: int = -1


@dataclass(frozen=True, slots=True)
class Leaf:
    """Text without further structure.

    Attributes:
        span: where it lies.
        parent: its container's place, or -1.
        comma: as of a container.
        atomic: whether a part of it makes no sense: it is then kept whole.
        inline: opening and closing of elements inside, which a part of the leaf must not tear.
    """

    span: Span
    parent: int = -1
    comma: int = -1
    atomic: bool = False
    inline: tuple[tuple[Span, Span], ...] = ()


@dataclass(frozen=True)
class Structure:
    """A text as a tree.

    Attributes:
        source: the text.
        units: what is kept or dropped, in order, disjoint; text between them is markup, or never shown.
        leaves: in order.
        containers: each behind its parent.
        above: by unit, the one that it cannot be read without: a table's header row, the name of a record.
        below: by heading, the unit right under it: a heading alone says nothing.
        labels: by unit, what its containers are called: "server > ports".
        escaped: whether leaves hold escapes as JSON strings do, which must not be torn.
    """

    source: str
    units: tuple[Span, ...]
    leaves: Sequence[Leaf]
    containers: Sequence[Container] = ()
    above: Mapping[int, int] = field(default_factory=dict)
    below: Mapping[int, int] = field(default_factory=dict)
    labels: Mapping[int, str] = field(default_factory=dict)
    escaped: bool = False

    @cached_property
    def _starts(self) -> list[int]:
        return [leaf.span.start for leaf in self.leaves]

    @cached_property
    def _unit_starts(self) -> list[int]:
        return [unit.start for unit in self.units]

    @cached_property
    def _escapes(self) -> list[tuple[int, int]]:
        return [match.span() for match in _ESCAPE.finditer(self.source)] if self.escaped else []

    def unit_at(self, place: int) -> int:
        """The number of the unit that holds a place, or of the last one before it."""
        return bisect_right(self._unit_starts, place) - 1

    def holds(self, span: Span) -> bool:
        """Whether any leaf lies in a range, or it is markup alone."""
        return next(iter(self._touched([span])), None) is not None

    def completed(self, spans: Iterable[Span]) -> tuple[Span, ...]:
        """What is kept of these ranges, with all that it needs to be well formed; linear in both.

        Markup by itself is not kept: a brace, a tag or a comma stays where something beside it or inside does.
        """
        found: list[Span] = []
        commas: dict[int, int] = {}  # by container, the comma behind the last child that is kept
        opened: set[int] = set()

        def child(parent: int, comma: int) -> None:
            if (before := commas.get(parent, -1)) >= 0:
                found.append(Span(before, before + 1))
            commas[parent] = comma

        for number, parts in self._touched(merge_spans(spans)):
            leaf = self.leaves[number]
            found += [leaf.span] if leaf.atomic else self._whole(leaf, parts)
            node: Leaf | Container = leaf
            while (parent := node.parent) >= 0:
                child(parent, node.comma)
                if parent in opened:
                    break
                opened.add(parent)
                node = self.containers[parent]
                found += [node.open, node.close]
        joined: list[Span] = []
        for span in merge_spans(found):
            if joined and self.source[joined[-1].end : span.start].isspace():
                span = Span(joined.pop().start, span.end)
            joined.append(span)
        return tuple(joined)

    def _touched(self, spans: Sequence[Span]) -> Iterable[tuple[int, list[Span]]]:
        """Each leaf that some of the ranges (sorted, disjoint) reach, with what they hold of it."""
        last, parts = -1, list[Span]()
        for span in spans:
            number = max(bisect_right(self._starts, span.start) - 1, 0)
            while number < len(self.leaves) and self.leaves[number].span.start < span.end:
                if part := intersect([self.leaves[number].span], [span]):
                    if number != last:
                        if parts:
                            yield last, parts
                        last, parts = number, []
                    parts += part
                number += 1
        if parts:
            yield last, parts

    def _whole(self, leaf: Leaf, parts: list[Span]) -> list[Span]:
        """Parts of a leaf that tear neither an escape nor an element inside."""
        if len(parts) == 1 and parts[0] == leaf.span:
            return parts
        if self._escapes:
            parts = [Span(self._untorn(part.start)[0], self._untorn(part.end)[1]) for part in parts]
        found = list(parts)
        kept = merge_spans(parts)
        ends = [part.end for part in kept]
        for opening, closing in leaf.inline:
            # The first part that reaches beyond the opening tag, if it begins before the closing one's end.
            number = bisect_right(ends, opening.start)
            if number < len(kept) and kept[number].start < closing.end:
                found += [opening, closing]
        return found

    def _untorn(self, place: int) -> tuple[int, int]:
        """The borders of the escape that a place lies in; the place itself where it lies in none."""
        number = bisect_right(self._escapes, (place, -1)) - 1
        if number >= 0:
            start, end = self._escapes[number]
            if start < place < end:
                return start, end
        return place, place


def at_empty_lines(source: str, span: Span, most: int) -> list[Span]:
    """A range that tiles, cut behind its empty lines if it has more than so many characters."""
    if len(span) <= most:
        return [span] if span else []
    cuts, place, empty = [], span.start, False
    for line in source[span.start : span.end].splitlines(keepends=True):
        if empty and line.strip() and place > span.start:
            cuts.append(place)
        empty = not line.strip()
        place += len(line)
    ends = [*cuts, span.end]
    return [Span(start, end) for start, end in zip([span.start, *cuts], ends, strict=True)]
