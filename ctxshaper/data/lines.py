"""Where lines begin and end around a cut, so that what is left of rows, code and lists keeps its lines."""

from __future__ import annotations

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
