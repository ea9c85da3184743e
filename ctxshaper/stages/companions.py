"""What a unit cannot be read without: the headings above it, its table's header, the line that introduces its list."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ctxshaper.data import Context
from ctxshaper.stages.units import Unit, by_passage, text_of
from ctxshaper.text.structures import Structure, structure_of

_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_UNDERLINED = re.compile(r"[^\n]*\S[^\n]*\n {0,3}(=+|-+)[ \t]*\n*", re.ASCII)
_DELIMITER_ROW = re.compile(r"[^\n]*\|[^\n]*\n[ \t]*\|?[ \t]*:?-+:?[ \t|:-]*\n*")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]")
# Formats whose trees say what belongs together; of the others, Markdown among them, the texts themselves do.
_TREES = {"json", "html", "python", "code", "mail"}
# Longer ones cost more than they tell: set by hand, about 50 tokens.
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Companions:
    """Which units are brought along by which.

    Attributes:
        above: by unit, the one that it stands under: its heading, its table's header, its list's lead-in.
        below: by heading, the unit right under it: a heading alone says nothing.
    """

    above: dict[int, int] = field(default_factory=dict)
    below: dict[int, int] = field(default_factory=dict)

    def closed(self, places: Iterable[int]) -> list[int]:
        """These units and all that they bring along, each once."""
        found: dict[int, None] = {}
        for chosen in places:
            for start in (chosen, self.below.get(chosen)):
                place = start
                while place is not None and place not in found:
                    found[place] = None
                    place = self.above.get(place)
        return list(found)


def companions_of(context: Context, units: Sequence[Unit]) -> Companions:
    """Find them by how Markdown and tables of values are written. Linear; plain prose has none."""
    found = Companions()
    for index, places in by_passage(units).items():
        passage = context.passages[index]
        if passage.format == "prose" and "\n" not in passage.source:
            continue
        own = [place for place in places if not units[place].whole and units[place].written is None]
        if len(own) > 1 and passage.format in _TREES and (structure := structure_of(passage)):
            _of_structure(structure, units, own, found)
        elif len(own) > 1:
            table = passage.format == "table"
            _of_passage([(place, text_of(context, units[place])) for place in own], found, table=table)
    return found


def _of_structure(structure: Structure, units: Sequence[Unit], places: Sequence[int], found: Companions) -> None:
    here = {structure.unit_at(units[place].span.start): place for place in reversed(places)}
    for place in places:
        number = structure.unit_at(units[place].span.start)
        for relation, brought in ((structure.above, found.above), (structure.below, found.below)):
            other = here.get(relation.get(number, -1))
            if other is not None and other != place:
                brought[place] = other


def _of_passage(units: Sequence[tuple[int, str]], found: Companions, *, table: bool) -> None:
    headings: list[tuple[int, int]] = []  # level and place of those that hold here
    header = lead = waiting = None
    if table and len(units[0][1]) <= _LONGEST:
        header = units[0][0]
    for place, text in units:
        if waiting is not None:
            found.below[waiting] = place
            waiting = None
        if level := _level(text):
            while headings and headings[-1][0] >= level:
                headings.pop()
            if headings:
                found.above[place] = headings[-1][1]
            if len(text) <= _LONGEST:
                headings.append((level, place))
                waiting = place
            header = lead = None
            continue
        if _DELIMITER_ROW.fullmatch(text):
            header, lead = place, None
        elif header is not None and (table or "|" in text):
            if place != header:
                found.above[place] = header
                continue
        elif lead is not None and _ITEM.match(text):
            found.above[place] = lead
            continue
        else:
            header = None
            lead = place if text.rstrip().endswith((":", "：")) and len(text) <= _LONGEST else None
        if headings:
            found.above[place] = headings[-1][1]


def _level(text: str) -> int:
    """The level of a heading, 0 for another text."""
    if (match := _HEADING.match(text)) and "\n" not in text.strip():
        return len(match[1])
    if match := _UNDERLINED.fullmatch(text):
        return 1 if match[1][0] == "=" else 2
    return 0
