"""A text that knows which of its characters matter most, and the marks of a context's kept text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctxshaper.data.spans import Span, intersect, merge_spans
from ctxshaper.errors import InvalidInputError

if TYPE_CHECKING:
    from ctxshaper.data.passages import Passage
    from ctxshaper.data.rendering import Rendering


class Marked(str):
    r"""A str with marked ranges: what a steered `LocalGenerator` puts weight on. To all else it is its text.

    `"Read this:\n\n" + shaped.marked() + "\n\nQuestion: " + question` keeps the marks; f-strings, `join` and the
    other methods of str give plain text without them.

    Attributes:
        spans: the marked ranges of characters, sorted and disjoint.

    Raises:
        InvalidInputError: a range outside of the text.
    """

    spans: tuple[Span, ...]

    def __new__(cls, text: str, spans: Iterable[Span] = ()) -> Marked:
        """The text with these ranges marked."""
        marked = super().__new__(cls, text)
        marked.spans = merge_spans(spans)
        if marked.spans and marked.spans[-1].end > len(text):
            raise InvalidInputError(f"{marked.spans[-1]} lies outside of a text of {len(text)} characters")
        return marked

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.spans

    def __add__(self, other: str) -> Marked:
        return Marked(str(self) + str(other), [*self.spans, *_moved(marks_of(other), len(self))])

    def __radd__(self, other: str) -> Marked:
        return Marked(str(other) + str(self), _moved(self.spans, len(other)))


def marks_of(text: str) -> tuple[Span, ...]:
    """The marked ranges of a text; a plain one has none."""
    return text.spans if isinstance(text, Marked) else ()


def kept_marks(
    rendering: Rendering, shown: Sequence[Passage], kept: Mapping[int | None, Sequence[Span]]
) -> tuple[Span, ...]:
    """Where text that was kept stands in the rendered text of passages.

    Args:
        rendering: how they become text.
        shown: the passages that are rendered; what of them was written by a model counts as kept.
        kept: by rank, the kept ranges of the source, sorted and disjoint.
    """
    found: list[Span] = []
    position = 0
    for number, part in enumerate(rendering.parts(shown)):
        passage = shown[part.place]
        start = position + (len(rendering.separator) if number else 0) + len(part.heading)
        position = start + len(part.body)
        wanted = kept.get(passage.rank, ())
        for piece in passage.placed(rendering.ellipsis):
            # What shows of a kept piece is one range of the source.
            ahead = start - part.lost + piece.start
            if piece.generated:
                inside: Iterable[Span] = (Span(0, len(piece.text)),) if passage.rank in kept else ()
            else:
                inside = _moved(intersect(piece.spans, wanted), -piece.spans[0].start)
            for span in inside:
                first, last = max(ahead + span.start, start), min(ahead + span.end, position)
                if first < last:
                    found.append(Span(first, last))
    return merge_spans(found)


def _moved(spans: Iterable[Span], by: int) -> list[Span]:
    return [Span(span.start + by, span.end + by) for span in spans]
