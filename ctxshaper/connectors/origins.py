"""Origins: for each stretch of a text, the ranges of its source that it was copied from or that support it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ctxshaper.data import Placed, Span, merge_spans

# A written piece with more support than this is cited by one range around all of it. A record stays small so, and
# following one record through another stays linear whoever wrote it; sentences that were rewritten cite a handful.
MOST_SPANS = 256


class Origin(NamedTuple):
    """Where one stretch of a text comes from.

    Attributes:
        start: its first character in the text.
        end: behind its last one.
        spans: the range of the source that it repeats; of written text, the ranges that support it, if any.
        generated: whether it was written and not copied.
    """

    start: int
    end: int
    spans: tuple[Span, ...]
    generated: bool


def whole(length: int) -> tuple[Origin, ...]:
    """The origins of a text of so many characters that is its own source."""
    return (Origin(0, length, (Span(0, length),), False),) if length else ()


def placed_origins(placed: Iterable[Placed], shift: int = 0) -> tuple[Origin, ...]:
    """The origins of a passage's pieces, moved by so many characters; what joins two pieces has none."""
    return tuple(
        Origin(p.start + shift, p.start + shift + len(p.text), _bounded(p.spans), p.generated) for p in placed if p.text
    )


def within(origins: Sequence[Origin], start: int, end: int) -> Iterator[Origin]:
    """The origins of a range of the text: copied stretches are cut to it, written ones keep all their support."""
    for place in range(bisect_right(origins, start, key=lambda origin: origin.end), len(origins)):
        origin = origins[place]
        low, high = max(start, origin.start), min(end, origin.end)
        if low >= high:
            return
        spans = origin.spans
        if not origin.generated:
            first = spans[0].start - origin.start
            spans = (Span(first + low, first + high),)
        yield Origin(low, high, spans, origin.generated)


def follow(origins: Iterable[Origin], earlier: Sequence[Origin]) -> Iterator[Origin]:
    """The origins of a text that was shaped twice, in its first source.

    Args:
        origins: of the text, in what the first shaping made.
        earlier: of what the first shaping made, in the first source.
    """
    for origin in origins:
        if origin.generated:
            found = (s for span in origin.spans for e in within(earlier, span.start, span.end) for s in e.spans)
            yield origin._replace(spans=_bounded(merge_spans(found)))
        else:
            span = origin.spans[0]
            shift = origin.start - span.start
            for e in within(earlier, span.start, span.end):
                yield e._replace(start=e.start + shift, end=e.end + shift)


def _bounded(spans: tuple[Span, ...]) -> tuple[Span, ...]:
    return spans if len(spans) <= MOST_SPANS else (Span(spans[0].start, spans[-1].end),)
