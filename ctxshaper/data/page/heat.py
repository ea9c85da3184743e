"""Attention as a heat behind the text: a level from 1 to 9 for each token and each head, chosen without script.

Levels are classes and not styles of their own, so that a page's style is the same text whatever the attention is, and
a policy can allow it by its hash.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

from ctxshaper.data.attention import Attention
from ctxshaper.data.page.escaping import shown

# All heads together, and the eight that count most.
_MOST = 9
_LEVELS = 9
_LETTERS = "abcdefghi"


class Mark(NamedTuple):
    """A token of a passage's source with its classes: "a7 c2" is level 7 of the first attention and 2 of the third."""

    start: int
    end: int
    classes: str


def marks(attention: Sequence[Attention]) -> Mapping[int, list[Mark]]:
    """By rank, the tokens of a passage that anything looked at, in order and disjoint."""
    levels: dict[int, dict[tuple[int, int], list[str]]] = {}
    for letter, one in zip(_LETTERS, attention[:_MOST], strict=False):
        most = max((token.share for passage in one.passages for token in passage), default=0.0)
        for rank, passage in enumerate(one.passages):
            row = levels.setdefault(rank, {})
            for token in passage:
                # By its root: a few tokens get most, and what the others got would not show.
                if most > 0 and (level := round(_LEVELS * (max(token.share, 0.0) / most) ** 0.5)):
                    row.setdefault((token.start, token.end), []).append(f"{letter}{level}")
    return {rank: list(_disjoint(row)) for rank, row in levels.items()}


def _disjoint(row: Mapping[tuple[int, int], list[str]]) -> Iterator[Mark]:
    """Tokens in order; several that share a character (as bytes of it) count as the first."""
    reached = 0
    for (start, end), classes in sorted(row.items(), key=itemgetter(0)):
        if max(start, reached) < end:
            yield Mark(max(start, reached), end, " ".join(classes))
            reached = end


def heated(text: str, start: int, found: Sequence[Mark]) -> str:
    """Text as HTML in which each token that got attention stands in an element `b` with its levels.

    Args:
        text: a part of a passage's source.
        start: where in the source it begins.
        found: the passage's marks.
    """
    if not found:
        return shown(text)
    end, place, parts = start + len(text), start, []
    for classes, group in groupby(_within(found, start, end), key=attrgetter("classes")):
        for first, last in _runs(group):
            parts.append(shown(text[place - start : max(first, place) - start]))
            parts.append(f'<b class="{classes}">{shown(text[max(first, place) - start : min(last, end) - start])}</b>')
            place = min(last, end)
    return "".join(parts) + shown(text[place - start :])


def _within(found: Sequence[Mark], start: int, end: int) -> Iterator[Mark]:
    for place in range(max(0, bisect_left(found, start, key=attrgetter("start")) - 1), len(found)):
        mark = found[place]
        if mark.start >= end:
            return
        if mark.end > start:
            yield mark


def _runs(group: Iterator[Mark]) -> Iterator[tuple[int, int]]:
    """Ranges of marks that stand side by side."""
    first = last = -1
    for mark in group:
        if mark.start != last:
            if last > first:
                yield first, last
            first = mark.start
        last = mark.end
    if last > first:
        yield first, last


def chooser(attention: Sequence[Attention]) -> str:
    """The buttons by which one of them is shown; nothing where there is none."""
    if not attention:
        return ""
    names = ["none", *(one.name for one in attention[:_MOST])]
    buttons = [
        f'<label><input type="radio" name="heat" id="heat{place}"{" checked" * (place == 1)}> {shown(name)}</label>'
        for place, name in enumerate(names)
    ]
    return (
        f'<fieldset class="view heat"><legend>Attention</legend><span aria-hidden="true">Attention:</span> '
        f"{' '.join(buttons)}</fieldset>"
    )


def style() -> str:
    """The rules for all levels, whatever a page holds."""
    rules = [
        f"main:has(#heat{place}:checked) .{letter}{level}{{--heat:{level}}}"
        for place, letter in enumerate(_LETTERS, 1)
        for level in range(1, _LEVELS + 1)
    ]
    return "\n".join(rules)
