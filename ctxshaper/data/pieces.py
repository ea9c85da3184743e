"""Pieces: what a passage says, kept from its source or written instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ctxshaper.data.spans import Span, merge_spans
from ctxshaper.errors import InvalidInputError

# Scripts that put no space behind these.
_STOPS_WITHOUT_SPACE = "。！？"


@dataclass(frozen=True, slots=True)
class Kept:
    """A piece of a passage that is its source's own text, byte for byte.

    Attributes:
        span: where it lies in the source; not empty.
    """

    span: Span

    def __post_init__(self) -> None:
        if not isinstance(self.span, Span) or not len(self.span):
            raise InvalidInputError(f"a kept piece needs a Span with characters, but got {self.span!r:.80}")


@dataclass(frozen=True, slots=True)
class Written:
    """A piece of a passage that a language model (or a template) wrote.

    Attributes:
        text: what was written; not empty.
        support: ranges of the source that say so, sorted and disjoint; empty for what cites nothing, such as a heading.
    """

    text: str
    support: tuple[Span, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text:
            raise InvalidInputError(f"a written piece needs a text with characters, but got {self.text!r:.80}")
        object.__setattr__(self, "support", merge_spans(self.support))


Piece = Kept | Written


class Placed(NamedTuple):
    """A piece as it shows in a passage's text.

    Attributes:
        gap: what joins it to the piece before it.
        start: its first character in the text, behind the gap.
        text: what shows of it.
        spans: where that lies in the source; of a written piece, its support.
        generated: whether it was written.
    """

    gap: str
    start: int
    text: str
    spans: tuple[Span, ...]
    generated: bool


def spans_of(piece: Piece) -> tuple[Span, ...]:
    """Where a piece lies in the source, or what supports it there."""
    return (piece.span,) if isinstance(piece, Kept) else piece.support


def between(before: str) -> str:
    """What stands between a piece that was written, or that follows one, and the text before it."""
    return "" if not before or before[-1] in _STOPS_WITHOUT_SPACE or before.endswith("\n") else " "


def checked(pieces: Any, length: int) -> tuple[Piece, ...]:
    """Pieces of a source of so many characters, kept ones sorted and disjoint."""
    result = tuple(pieces)
    reached = 0
    for piece in result:
        if isinstance(piece, Kept):
            if piece.span.start < reached:
                raise InvalidInputError(
                    f"kept pieces must be sorted and must not overlap, but {piece.span} begins before {reached}"
                )
            reached = piece.span.end
        elif not isinstance(piece, Written):
            raise InvalidInputError(f"pieces must be Kept or Written, but got {type(piece).__name__}")
        spans = spans_of(piece)
        if spans and spans[-1].end > length:
            raise InvalidInputError(f"{spans[-1]} lies outside of a source of {length} characters")
    return result


def piece_of(data: Any) -> Piece:
    """A piece from plain data.

    Raises:
        InvalidInputError: data of another form.
    """
    if isinstance(data, Mapping) and set(data) == {"start", "end"}:
        return Kept(Span(data["start"], data["end"]))
    if isinstance(data, Mapping) and set(data) == {"text", "support"}:
        try:
            return Written(data["text"], tuple(Span(start, end) for start, end in data["support"]))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"support is a list of [start, end], but got {data['support']!r:.80}") from error
    raise InvalidInputError(f"a piece is {{start, end}} or {{text, support}}, but got {names_of(data)}")


def names_of(data: Any) -> str:
    """What an error says of plain data: its names, or its type."""
    return ", ".join(sorted(map(repr, data))[:10]) if isinstance(data, (Mapping, set)) else type(data).__name__
