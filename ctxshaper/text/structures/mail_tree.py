"""E-mails: the header's fields, the body's sentences, and what is quoted under the line that says of whom."""

from __future__ import annotations

import re

from ctxshaper.data import Span
from ctxshaper.text.segments import sentences
from ctxshaper.text.structures.tree import Leaf, Structure

_QUOTED = re.compile(r"[ \t]{0,3}>")
_ATTRIBUTION = re.compile(
    r"[^\n]{0,300}(?:wrote|schrieb|écrit|escribió|ha scritto|Original Message)[^\n]{0,60}:?[ \t]*-*\s*$"
)


def mail_structure(source: str) -> Structure:
    """Fields, sentences and quoted sentences; a line such as "On Monday Ada wrote:" comes along with what it quotes."""
    units: list[Span] = []
    above: dict[int, int] = {}
    place = _header(source, units)
    attribution = -1
    for start, end, quoted in _runs(source, place):
        first = len(units)
        spans = (Span(start + span.start, start + span.end) for span in sentences(source[start:end]))
        units += [span for span in spans if source[span.start : span.end].strip(" \t\r\n>")]
        if quoted and attribution >= 0:
            above |= dict.fromkeys(range(first, len(units)), attribution)
        last = len(units) - 1
        says = (
            not quoted and last >= first and _ATTRIBUTION.fullmatch(source[units[last].start : units[last].end].strip())
        )
        attribution = last if says else attribution if quoted else -1
    return Structure(source, tuple(units), [Leaf(unit) for unit in units], above=above)


def _header(source: str, units: list[Span]) -> int:
    """Add a unit for each field, with the lines that it goes on in; returns where the body begins."""
    place = 0
    start = -1
    for line in source.splitlines(keepends=True):
        if not line.strip():
            if start >= 0:
                break
        elif line[0] not in " \t" or start < 0:
            if start >= 0:
                units.append(Span(start, place))
            start = place
        place += len(line)
    if start >= 0:
        units.append(Span(start, place))
    return place


def _runs(source: str, place: int) -> list[tuple[int, int, bool]]:
    """Neighbouring lines that are all quoted or all not."""
    runs: list[tuple[int, int, bool]] = []
    for line in source[place:].splitlines(keepends=True):
        quoted = bool(_QUOTED.match(line))
        if runs and (runs[-1][2] == quoted or not line.strip()):
            runs[-1] = (runs[-1][0], place + len(line), runs[-1][2])
        else:
            runs.append((place, place + len(line), quoted))
        place += len(line)
    return runs
