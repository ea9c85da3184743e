"""A text that holds passages: where they stand in it, and how it is written when they say less."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ctxshaper.data import Passage, Span
from ctxshaper.data.formats import KEY, Format
from ctxshaper.text.structures.json_tree import TOKEN

_SURROGATES = ("\ud800", "\udfff")


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a passage's text stands in a text.

    Attributes:
        span: of the passage's text.
        title: of the passage, as the text says it.
        escaped: whether it is the inside of a JSON string.
        kind: its format, where the text tells.
    """

    span: Span
    title: str = ""
    escaped: bool = False
    kind: Format | None = None


class Sibling(NamedTuple):
    """One of several things in a row that a separator stands between.

    Attributes:
        span: goes as a whole, with its label, tags or braces, when its passage is dropped.
        slot: the place of its passage among the slots; None for what holds none and stays.
    """

    span: Span
    slot: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """The passages of a text, and what goes with each.

    Attributes:
        text: the whole text.
        slots: where passages stand, in order, disjoint.
        rows: rows of siblings; every slot belongs to one sibling.
        regions: where the text is about its passages, if that is more than the rows.
    """

    text: str
    slots: tuple[Slot, ...]
    rows: tuple[tuple[Sibling, ...], ...]
    regions: tuple[Span, ...] = ()

    def moved(self, text: str, by: int) -> Layout:
        """The same layout inside of a longer text, in which it begins at this place."""

        def at(span: Span) -> Span:
            return Span(span.start + by, span.end + by)

        slots = tuple(replace(slot, span=at(slot.span)) for slot in self.slots)
        return Layout(text, slots, tuple(tuple(Sibling(at(s.span), s.slot) for s in row) for row in self.rows))

    def passages(self) -> tuple[Passage, ...]:
        """A passage for each slot, ranked in order."""
        made = []
        for rank, slot in enumerate(self.slots):
            metadata = {"title": slot.title} if slot.title else {}
            if slot.kind:
                metadata[KEY] = slot.kind
            made.append(Passage(self._said(slot), metadata=metadata, rank=rank))
        return tuple(made)

    def around(self) -> str:
        """The text around the passages, without their labels and tags."""
        regions = self.regions or [Span(row[0].span.start, row[-1].span.end) for row in self.rows]
        return _edited(self.text, [(span, "\n") for span in regions])

    def written(self, texts: Sequence[str | None]) -> str:
        """The text in which each passage says this; None drops it. What says what it said stays byte for byte.

        What is dropped goes with one separator beside it, so that lists of JSON stay lists.
        """
        edits = [edit for row in self.rows for edit in _dropped(row, texts)]
        for slot, text in zip(self.slots, texts, strict=True):
            if text is not None and text != self._said(slot):
                edits.append((slot.span, self._spelled(slot, text)))
        return _edited(self.text, edits)

    def _said(self, slot: Slot) -> str:
        raw = self.text[slot.span.start : slot.span.end]
        return str(json.loads(f'"{raw}"')) if slot.escaped else raw

    def _spelled(self, slot: Slot, text: str) -> str:
        if not slot.escaped:
            return text
        # As the list itself spells what is not ASCII; lone surrogates have no other spelling.
        plain = not self.text.isascii() and not any(_SURROGATES[0] <= sign <= _SURROGATES[1] for sign in text)
        return json.dumps(text, ensure_ascii=not plain)[1:-1]


def _dropped(row: tuple[Sibling, ...], texts: Sequence[str | None]) -> Iterator[tuple[Span, str]]:
    """What goes of a row: a dropped sibling with the separator before it, or after it where none is kept before."""
    some_kept = False
    for place, sibling in enumerate(row):
        if sibling.slot is None or texts[sibling.slot] is not None:
            some_kept = True
        elif some_kept:
            yield Span(row[place - 1].span.end, sibling.span.end), ""
        else:
            last = place + 1 == len(row)
            yield Span(sibling.span.start, sibling.span.end if last else row[place + 1].span.start), ""


def _edited(text: str, edits: Iterable[tuple[Span, str]]) -> str:
    parts, reached = [], 0
    for span, new in sorted(edits, key=lambda edit: edit[0].start):
        parts += [text[reached : span.start], new]
        reached = span.end
    return "".join([*parts, text[reached:]])


def into_last_string(text: str, more: str) -> str | None:
    """JSON whose last string that is a value ends with these words too; None where there is no such string.

    Args:
        text: parses as JSON, or line by line.
        more: is appended.
    """
    place = None
    found = list(TOKEN.finditer(text))
    for number, token in enumerate(found):
        is_key = number + 1 < len(found) and found[number + 1][0] == ":"
        if token[0][0] == '"' and not is_key:
            place = token.end() - 1
    return None if place is None else text[:place] + json.dumps(more)[1:-1] + text[place:]
