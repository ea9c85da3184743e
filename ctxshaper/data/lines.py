"""Where lines begin and end around a cut, so that what is left of rows, code and lists keeps its lines."""

from __future__ import annotations

from ctxshaper.data.formats import Format
from ctxshaper.data.spans import Span

_BREAKS = "\n\r"
# So much of a line is looked at to see whether it is a row.
_LOOK = 500


def line_start(text: str, place: int) -> int:
    """Where the white space of a line begins that leads up to a place; the place itself in the midst of a line."""
    start = place
    while start and text[start - 1] in " \t":
        start -= 1
    return start if not start or text[start - 1] in _BREAKS else place


def starts_line(text: str, place: int) -> bool:
    """Whether nothing but white space stands before a place in its line."""
    start = line_start(text, place)
    return not start or text[start - 1] in _BREAKS


def ends_line(text: str, place: int) -> bool:
    """Whether nothing but white space stands behind a place in its line."""
    while place < len(text) and text[place] in " \t":
        place += 1
    return place == len(text) or text[place] in _BREAKS or (place > 0 and text[place - 1] in _BREAKS)


def are_rows(before: str, after: str) -> bool:
    """Whether the last line of one text and the first of another are rows of one table: as many cells in both."""
    last = before[-_LOOK:].rstrip(_BREAKS).rpartition("\n")[2]
    first = after[:_LOOK].lstrip(_BREAKS).partition("\n")[0]
    if last.endswith((".", "!", "?")):
        return False  # prose that wraps
    return any(0 < last.count(sign) == first.count(sign) >= (1 if sign == "\t" else 2) for sign in "\t,;|")


def mark(kind: Format, source: str, before: Span, after: Span, ellipsis: str) -> str:
    """What stands for missing text between two ranges that are kept.

    On a line of its own between lines, and nothing but a line break between rows. What is left of JSON and of HTML has
    to parse, and says nothing outside of its strings and texts; in Python a comment says it.
    """
    lines = ends_line(source, before.end) and starts_line(source, after.start)
    last, first = source[before.end - 1 : before.end], source[after.start : after.start + 1]
    if (kind == "json" and (last in "{[,:" or first in "}],")) or (kind == "html" and (last == ">" or first == "<")):
        return "\n" if lines or kind == "html" else " "
    sign = ellipsis.strip()
    if not lines:
        # A heading, a list's item or a row begins a line, and ends with it.
        starts, ends = starts_line(source, after.start), ends_line(source, before.end)
        return (
            f" {sign}\n" if starts and sign else f"\n{sign} " if ends and sign else "\n" if starts or ends else ellipsis
        )
    rows = kind == "table" or are_rows(source[before.start : before.end], source[after.start : after.end])
    if rows or not sign:
        return "\n"
    return f"\n# {sign}\n" if kind == "python" else f"\n{sign}\n"
