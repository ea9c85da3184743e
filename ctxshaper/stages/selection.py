"""Choosing text under a budget: the part that every selecting stage shares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from ctxshaper.data import Context, Passage, Span, merge_spans
from ctxshaper.stages.base import Log
from ctxshaper.text.segments import blocks, sentences

Unit = Literal["sentence", "block", "passage"]

# So many units that nearly fit are tried in vain before a budget counts as full.
_FAILURES = 8

_SEGMENT: dict[str, Callable[[str], tuple[Span, ...]]] = {"sentence": sentences, "block": blocks}


def units_of(passage: Passage, unit: Unit) -> list[Span]:
    """What may be kept or dropped of a passage: segments of its source, within what is still kept of it.

    A generated text is one unit: its spans support it and cannot be dropped one by one.
    """
    if passage.generated or unit == "passage":
        return [Span(passage.spans[0].start, passage.spans[-1].end)] if passage.spans else []
    segments = _SEGMENT[unit](passage.source)
    if not passage.complete:
        segments = tuple(
            Span(max(s.start, k.start), min(s.end, k.end)) for k in passage.spans for s in segments if s.overlaps(k)
        )
    return [s for s in segments if passage.source[s.start : s.end].strip()]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A unit that may be kept.

    Attributes:
        passage: index of its passage in the context.
        span: where it lies in the passage's source.
        score: higher is more relevant.
    """

    passage: int
    span: Span
    score: float


def keep(context: Context, chosen: Sequence[Candidate]) -> Context:
    """The context with only the chosen units, in the order of the passages; empty passages drop out."""
    spans: dict[int, list[Span]] = {}
    for candidate in chosen:
        spans.setdefault(candidate.passage, []).append(candidate.span)
    kept = []
    for index, passage in enumerate(context.passages):
        if index not in spans:
            continue
        # A passage kept whole stays the object it was; so does a generated one.
        whole = passage.generated or merge_spans(spans[index]) == passage.spans
        kept.append(passage if whole else passage.keep(spans[index]))
    return context.with_passages(kept)


def select(context: Context, candidates: Sequence[Candidate], log: Log, limit: int | None) -> Context:
    """Keep the best units that fit into a limit, counted in the generator's tokens over the rendered text.

    Units are taken by score; one that does not fit is passed over for the next that does. The limit is never
    exceeded: where not even the best unit fits, nothing is kept, and the log says so.

    Args:
        context: what to shape.
        candidates: all units; equal scores are taken in reading order.
        log: takes reasons for what is dropped.
        limit: most tokens of the rendered text, or None to keep all candidates.
    """
    ranked = sorted(candidates, key=lambda c: -c.score)
    chosen = ranked if limit is None else _fill(context, ranked, limit)
    if candidates and not chosen:
        log.notes["nothing_fits"] = f"the best unit alone takes more than the budget of {limit} tokens"
    log.notes["kept"] = [
        {"passage": context.passages[c.passage].rank, "start": c.span.start, "end": c.span.end, "score": c.score}
        for c in chosen
    ]
    held = set(map(id, chosen))
    for candidate in candidates:
        if id(candidate) not in held:
            passage = context.passages[candidate.passage]
            log.drop(passage, [candidate.span], "score too low for the budget", candidate.score)
    return keep(context, chosen)


def _fill(context: Context, ranked: Sequence[Candidate], limit: int) -> list[Candidate]:
    """The best units that fit together, and after the first that does not, later ones that still do."""

    def tokens(chosen: Sequence[Candidate]) -> int:
        return keep(context, chosen).tokens

    if (total := tokens(ranked)) <= limit:
        return list(ranked)
    length, used = _longest_prefix(ranked, tokens, limit, total)
    chosen, failures = list(ranked[:length]), 0
    for candidate in ranked[length + 1 :]:
        # What a unit takes alone, without its heading, is cheap to count and rules most of them out.
        if limit - used < context.count(_text(context, candidate)) - 1:
            continue
        if (grown := tokens([*chosen, candidate])) <= limit:
            chosen.append(candidate)
            used = grown
        elif (failures := failures + 1) == _FAILURES:
            break
    return chosen


def _longest_prefix(
    ranked: Sequence[Candidate], tokens: Callable[[Sequence[Candidate]], int], limit: int, total: int
) -> tuple[int, int]:
    """How many of the first units fit, and their tokens, by the exact count of the rendered text.

    Counting is dear and characters foretell tokens well: the place is guessed from them, in turn with halving.
    """
    ends = [0, *accumulate(len(c.span) for c in ranked)]
    low, used, high, over = 0, 0, len(ranked), total
    halve = False
    while high - low > 1:
        if halve:
            middle = (low + high) // 2
        else:
            place = ends[low] + (ends[high] - ends[low]) * (limit - used) / (over - used)
            middle = min(max(bisect_right(ends, place) - 1, low + 1), high - 1)
        halve = not halve
        if (count := tokens(ranked[:middle])) <= limit:
            low, used = middle, count
        else:
            high, over = middle, count
    return low, used


def _text(context: Context, candidate: Candidate) -> str:
    passage = context.passages[candidate.passage]
    return passage.text if passage.generated else passage.source[candidate.span.start : candidate.span.end]
