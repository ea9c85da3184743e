"""Passages: a source text, and the pieces of it that are kept or that a language model wrote instead."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real
from typing import Any

from ctxshaper.data.formats import Format, checked_format, format_of
from ctxshaper.data.lines import line_start, mark
from ctxshaper.data.pieces import Kept, Piece, Placed, Written, between, checked, names_of, piece_of, spans_of
from ctxshaper.data.plain import Frozen, json_safe, shortened
from ctxshaper.data.spans import Span, intersect, merge_spans
from ctxshaper.errors import InvalidInputError

ELLIPSIS = " … "


@dataclass(frozen=True, repr=False)
class Passage:
    """One retrieved passage, and what is kept of it. Immutable; pickles, copies, compares and hashes.

    `Passage("...")` is a passage as a retriever gives it: all of it is kept. Stages make shorter ones with `keep` and
    rewritten ones with `rewrite`. `source[span.start:span.end]` of every kept piece is what was kept, byte for byte.

    Attributes:
        source: the whole original text.
        id: the retriever's name for it, if any; need not be unique.
        score: the retriever's score, if any; its scale is the retriever's own. Not a number counts as none.
        metadata: anything else, by text keys; `title` is used as a heading. Read-only.
        pieces: what the passage now says: kept pieces (sorted, disjoint) and written ones; None: all of the source.
        rank: its place in the retriever's list, counted from 0; a context fills it in.

    Raises:
        InvalidInputError: a field of the wrong type, an infinite score, a `text_format` that there is not, or pieces
            that do not fit the source.
    """

    source: str
    id: str | None = None
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    pieces: tuple[Piece, ...] = None  # type: ignore[assignment]  # filled in: all of `source`
    rank: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise InvalidInputError(f"a passage's text must be a str, but got {type(self.source).__name__}")
        if self.id is not None and not isinstance(self.id, str):
            raise InvalidInputError(f"a passage's id must be a str or None, but got {self.id!r:.80}: pass str(id)")
        if self.rank is not None and (type(self.rank) is not int or self.rank < 0):
            raise InvalidInputError(f"a passage's rank must be an int from 0 or None, but got {self.rank!r:.80}")
        if not isinstance(self.metadata, Frozen):
            object.__setattr__(self, "metadata", Frozen(self.metadata, "a passage's metadata"))
            checked_format(self.metadata)
        object.__setattr__(self, "score", _score(self.score))
        if self.pieces is None:
            object.__setattr__(self, "pieces", (Kept(Span(0, len(self.source))),) if self.source else ())
        else:
            object.__setattr__(self, "pieces", checked(self.pieces, len(self.source)))

    def __repr__(self) -> str:
        told = [shortened(self.source)]
        told += [f"{name}={value!r}" for name, value in (("id", self.id), ("score", self.score)) if value is not None]
        told += [f"title={shortened(self.title)}"] if self.title else []
        if self.generated:
            told.append("rewritten")
        elif not self.complete:
            told.append(f"{sum(map(len, self.spans))} of {len(self.source)} characters kept")
        return f"<Passage {', '.join(told)}>"

    @classmethod
    def of(cls, value: Passage | str) -> Passage:
        """A passage from a passage or plain text.

        Raises:
            InvalidInputError: for anything else.
        """
        if isinstance(value, Passage):
            return value
        if isinstance(value, str):
            return cls(value)
        raise InvalidInputError(
            f"a passage must be a str or a ctxshaper.Passage, but got {type(value).__name__}; "
            "for Documents or Nodes use ctxshaper.connectors"
        )

    @cached_property
    def text(self) -> str:
        """What the passage now says: its pieces, joined by `…` where text of the source is missing."""
        return self.joined(ELLIPSIS)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """What is kept of the source or supports what was written, sorted and disjoint."""
        return merge_spans(s for piece in self.pieces for s in spans_of(piece))

    @property
    def generated(self) -> bool:
        """Whether any piece was written by a language model."""
        return any(isinstance(piece, Written) for piece in self.pieces)

    @cached_property
    def title(self) -> str:
        """The heading of the passage, from its metadata; empty if it has none."""
        title = self.metadata.get("title")
        return title.strip() if isinstance(title, str) else ""

    @cached_property
    def format(self) -> Format:
        """What kind of text the source is; `text_format` in the metadata outranks what it looks like."""
        return format_of(self.source, self.metadata)

    @property
    def complete(self) -> bool:
        """Whether nothing of the source was dropped or rewritten."""
        return not self.generated and sum(map(len, self.spans)) == len(self.source)

    def ranked(self, rank: int) -> Passage:
        """The same passage at this place in the retriever's list; what was made of it is not made again."""
        if self.rank == rank:
            return self
        passage = object.__new__(type(self))
        passage.__dict__.update(self.__dict__, rank=rank)
        return passage

    def keep(self, spans: Iterable[Span], written: Iterable[int] = ()) -> Passage:
        """The same passage with less: of what it still says, only these ranges and these written pieces.

        Args:
            spans: ranges of the source, in any order; what an earlier stage dropped of them stays dropped.
            written: places in `pieces` of the written pieces that stay.

        Raises:
            InvalidInputError: a range outside of the source.
        """
        wanted = merge_spans(spans)
        if wanted and wanted[-1].end > len(self.source):
            raise InvalidInputError(f"{wanted[-1]} lies outside of a source of {len(self.source)} characters")
        held = merge_spans(piece.span for piece in self.pieces if isinstance(piece, Kept))
        stays = set(written)
        if not stays:
            return replace(self, pieces=tuple(map(Kept, intersect(held, wanted))))
        pieces: list[Piece] = []
        for place, piece in enumerate(self.pieces):
            if isinstance(piece, Kept):
                pieces += map(Kept, intersect((piece.span,), wanted))
            elif place in stays:
                pieces.append(piece)
        return replace(self, pieces=tuple(pieces))

    def rewrite(self, pieces: Iterable[Piece]) -> Passage:
        """The same passage saying what these pieces say, each written one with its own support.

        Raises:
            InvalidInputError: pieces that do not fit the source.
        """
        return replace(self, pieces=tuple(pieces))

    def joined(self, ellipsis: str) -> str:
        """The text with this mark where text of the source is missing between two pieces."""
        pieces = self.pieces
        if len(pieces) == 1 and isinstance(pieces[0], Kept):  # as most are
            return self.source[pieces[0].span.start : pieces[0].span.end]
        return "".join(placed.gap + placed.text for placed in self.placed(ellipsis))

    def placed(self, ellipsis: str = ELLIPSIS) -> list[Placed]:
        """Where each piece stands in the joined text; white space beside text that is missing does not show."""
        result: list[Placed] = []
        position, before, shown = 0, "", Span(0, 0)
        last = len(self.pieces) - 1
        for place, piece in enumerate(self.pieces):
            gap = ""
            if isinstance(piece, Written):
                text, spans = piece.text, piece.support
                if place and not text.startswith("\n"):
                    gap = between(before)
            else:
                previous = self.pieces[place - 1] if place else None
                following = self.pieces[place + 1] if place < last else None
                span = self._shown(piece.span, previous, following)
                text, spans = self.source[span.start : span.end], (span,)
                shown, ended = span, shown
                if isinstance(previous, Kept):
                    gap = "" if previous.span.end == piece.span.start else self._mark(ended, span, ellipsis)
                elif previous is not None:
                    gap = between(before)
            position += len(gap)
            result.append(Placed(gap, position, text, spans, isinstance(piece, Written)))
            position += len(text)
            before = text or before
        return result

    def _shown(self, span: Span, previous: Piece | None, following: Piece | None) -> Span:
        """What shows of a kept range: all but the white space beside something else than its own neighbour."""
        start, end = span.start, span.end
        # The last cell of a row may be an empty one behind a tab.
        space = "\r\n" if self.format == "table" else None
        if previous is not None and not (isinstance(previous, Kept) and previous.span.end == start):
            while start < end and self.source[start].isspace():
                start += 1
            start = max(line_start(self.source, start), span.start)  # what a line is indented by belongs to it
        if following is not None and not (isinstance(following, Kept) and following.span.start == end):
            end = start + len(self.source[start:end].rstrip(space))
        return Span(start, end)

    def _mark(self, before: Span, after: Span, ellipsis: str) -> str:
        return mark(self.format, self.source, before, after, ellipsis)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; values of the metadata that JSON cannot hold become strings."""
        return {
            "source": self.source,
            "id": self.id,
            "score": self.score,
            "metadata": json_safe(self.metadata),
            "rank": self.rank,
            "pieces": [
                {"start": piece.span.start, "end": piece.span.end}
                if isinstance(piece, Kept)
                else {"text": piece.text, "support": [[s.start, s.end] for s in piece.support]}
                for piece in self.pieces
            ],
            "text": self.text,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Passage:
        """The passage that `to_dict` described.

        Raises:
            InvalidInputError: fields that are missing, unknown or of another kind, or a text that its pieces do not
                make.
        """
        if not isinstance(data, Mapping) or not {"source", "pieces"} <= set(data):
            raise InvalidInputError(f"a passage needs source and pieces, but got {names_of(data)}")
        known = {"source", "id", "score", "metadata", "rank", "pieces", "text"}
        if unknown := set(data) - known:
            raise InvalidInputError(f"a passage has the fields {', '.join(sorted(known))}, but got {names_of(unknown)}")
        given = {k: v for k, v in data.items() if k not in ("pieces", "text")}
        if not isinstance(data["pieces"], Sequence) or isinstance(data["pieces"], str):
            raise InvalidInputError(f"pieces must be a list, but got {type(data['pieces']).__name__}")
        passage = cls(**given, pieces=tuple(map(piece_of, data["pieces"])))
        if "text" in data and data["text"] != passage.text:
            raise InvalidInputError(
                f"the text {data['text']!r:.60} is not what the passage's pieces say: {passage.text!r:.60}; leave the "
                "text out, or correct the pieces"
            )
        return passage


def _score(score: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, Real):
        raise InvalidInputError(f"a passage's score must be a number or None, but got {score!r:.80}")
    number = float(score)
    if math.isinf(number):
        raise InvalidInputError("a passage's score must be finite, but got an infinite one; pass None for no score")
    return None if math.isnan(number) else number
