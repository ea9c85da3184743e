"""Markdown's fences: code between them is cut at its empty lines, and a part of it keeps the fence around it."""

from __future__ import annotations

import re

from ctxshaper.data import Span
from ctxshaper.text.segments import sentences
from ctxshaper.text.structures.tree import Container, Leaf, Structure, at_empty_lines

_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})([^\n]*)")
# Fenced code up to so many characters is kept or dropped whole.
_WHOLE = 400


def fenced_structure(source: str) -> Structure | None:
    """The tree of a Markdown text with fences that close: its sentences, and the code under its fences."""
    fences = _fences(source)
    if not fences:
        return None
    leaves: list[Leaf] = []
    containers: list[Container] = []
    number = 0
    for span in sentences(source):
        while number < len(fences) and fences[number][1].end <= span.start:
            number += 1
        if number < len(fences) and fences[number][0].start < span.end:
            opening, closing = fences[number]
            if opening.start < span.start or span.end < closing.end:
                return None  # the cutter sees it otherwise: a fence in a list, in a quotation
            before = Span(span.start, opening.start)
            if source[before.start : before.end].strip():
                return None
            containers.append(Container(opening, closing))
            inside = at_empty_lines(source, Span(opening.end, closing.start), _WHOLE)
            leaves += [Leaf(piece, len(containers) - 1) for piece in inside]
        else:
            leaves.append(Leaf(span))
    units = [leaf.span for leaf in leaves if source[leaf.span.start : leaf.span.end].strip()]
    return Structure(source, tuple(units), leaves, containers)


def _fences(source: str) -> list[tuple[Span, Span]]:
    """The lines that open and close each fenced code, line ends included."""
    found: list[tuple[Span, Span]] = []
    place, opened, sign = 0, Span(0, 0), ""
    for line in source.splitlines(keepends=True):
        match = _FENCE.match(line)
        if match and not sign and not (match[2][0] == "`" and "`" in match[3]):
            opened, sign = Span(place, place + len(line)), match[2]
        elif match and sign and match[2].startswith(sign) and not match[3].strip():
            found.append((opened, Span(place, place + len(line))))
            sign = ""
        place += len(line)
    return found
