"""Headings without a generator: the words by which a paragraph differs from the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ctxshaper.data import Span
from ctxshaper.reading.function_words import content_ranges

_MOST = 4


def keywords(source: str, groups: Sequence[Sequence[Span]]) -> list[tuple[Span, ...]]:
    """For each paragraph the places of the words that it says most and the others least, in their order.

    Args:
        source: the passage's text.
        groups: its paragraphs, of each what is left of it.
    """
    words = [[word for span in group for word in _words(source, span)] for group in groups]
    whole = Counter(name for own in words for name, _ in own)
    return [_best(own, whole) for own in words]


def _words(source: str, group: Span) -> list[tuple[str, Span]]:
    found = content_ranges(source[group.start : group.end])
    spans = [Span(group.start + start, group.start + end) for start, end in found]
    return [(source[span.start : span.end].casefold(), span) for span in spans if len(span) > 1]


def _best(words: Sequence[tuple[str, Span]], whole: Counter[str]) -> tuple[Span, ...]:
    counts = Counter(name for name, _ in words)
    first = dict(reversed(words))
    best = sorted(first, key=lambda name: (-(counts[name] ** 2) / whole[name], first[name].start))[:_MOST]
    return tuple(sorted((first[name] for name in best), key=lambda span: span.start))
