"""Choosing text under a budget: the part that every selecting stage shares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from ctxshaper.data import Context, Kept, Passage, Span, Written, merge_spans
from ctxshaper.stages.run import Log
from ctxshaper.text.segments import blocks, sentences

UnitKind = Literal["sentence", "block", "passage"]

# Shorter texts are not looked for twice, in characters: set by hand, about four words.
_SHORTEST_DUPLICATE = 20
# So many units that nearly fit are tried in vain before a budget counts as full: set by hand; each try counts tokens.
_FAILURES = 8

_SEGMENT: dict[str, Callable[[str], tuple[Span, ...]]] = {"sentence": sentences, "block": blocks}


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of text that is kept or dropped whole.

    Attributes:
        passage: index of its passage in the context.
        span: where it lies in the passage's source; of a written piece, from the first to the last of its support.
        written: the place of a written piece among its passage's pieces; None for text of the source.
        whole: whether it is all that the passage still says.
    """

    passage: int
    span: Span
    written: int | None = None
    whole: bool = False


def units_of(context: Context, kind: UnitKind) -> list[Unit]:
    """What may be kept or dropped of a context, in reading order: segments of the sources, within what is still kept.

    A written piece is one unit.
    """
    return [unit for index, passage in enumerate(context.passages) for unit in _units(index, passage, kind)]


def _units(index: int, passage: Passage, kind: UnitKind) -> list[Unit]:
    if not passage.text.strip():
        return []
    if kind == "passage":
        hull = Span(passage.spans[0].start, passage.spans[-1].end) if passage.spans else Span(0, 0)
        return [Unit(index, hull, whole=True)]
    segments = _SEGMENT[kind](passage.source)
    units: list[Unit] = []
    at = 0
    for place, piece in enumerate(passage.pieces):
        if isinstance(piece, Written):
            support = piece.support or (Span(0, 0),)
            units.append(Unit(index, Span(support[0].start, support[-1].end), written=place))
            continue
        # Kept pieces come in order, and so do the segments: each is looked at about once.
        while at < len(segments) and segments[at].end <= piece.span.start:
            at += 1
        for number in range(at, len(segments)):
            segment = segments[number]
            if segment.start >= piece.span.end:
                break
            start, end = max(segment.start, piece.span.start), min(segment.end, piece.span.end)
            if passage.source[start:end].strip():
                units.append(Unit(index, Span(start, end)))
    return units


def by_passage(units: Sequence[Unit]) -> dict[int, list[int]]:
    """The places of the units of each passage that has any, by the passage's index."""
    places: dict[int, list[int]] = {}
    for place, unit in enumerate(units):
        places.setdefault(unit.passage, []).append(place)
    return places


def text_of(context: Context, unit: Unit) -> str:
    """What a unit says."""
    passage = context.passages[unit.passage]
    if unit.whole:
        return passage.text
    if unit.written is not None:
        piece = passage.pieces[unit.written]
        return piece.text if isinstance(piece, Written) else ""
    return passage.source[unit.span.start : unit.span.end]


def titled_texts(context: Context, units: Sequence[Unit]) -> list[str]:
    """What each unit says, with its passage's title in front: how embeddings and BM25 compare it."""
    titles = [f"{passage.title}: " if passage.title else "" for passage in context.passages]
    return [titles[unit.passage] + text_of(context, unit).strip() for unit in units]


def keep(context: Context, chosen: Sequence[Unit]) -> Context:
    """The context with only the chosen units, in the order of the passages; empty passages drop out."""
    spans: dict[int, list[Span]] = {}
    written: dict[int, list[int]] = {}
    whole = set()
    for unit in chosen:
        if unit.whole:
            whole.add(unit.passage)
        elif unit.written is not None:
            written.setdefault(unit.passage, []).append(unit.written)
        else:
            spans.setdefault(unit.passage, []).append(unit.span)
    kept = []
    for index, passage in enumerate(context.passages):
        if index in whole or _is_all(passage, spans.get(index, ()), written.get(index, ())):
            kept.append(passage)  # a passage kept whole stays the object it was
        elif index in spans or index in written:
            kept.append(passage.keep(spans.get(index, ()), written.get(index, ())))
    return context.with_passages(kept)


def _is_all(passage: Passage, spans: Sequence[Span], written: Sequence[int]) -> bool:
    if len(written) != sum(isinstance(piece, Written) for piece in passage.pieces) or not (spans or written):
        return False
    return merge_spans(spans) == merge_spans(piece.span for piece in passage.pieces if isinstance(piece, Kept))


def select(context: Context, units: Sequence[Unit], scores: Sequence[float], log: Log, limit: int | None) -> Context:
    """Keep the best units that fit into a limit, counted in the generator's tokens over the rendered text.

    A sentence that several passages hold is kept once. Units are taken by score; one that does not fit is passed over
    for the next that does. The limit is never exceeded: where not even the best unit fits, nothing is kept, not worse
    ones in its place; see `select_or_trim`.

    Args:
        context: what to shape.
        units: all units; equal scores are taken in reading order.
        scores: one per unit.
        log: takes the decision on each unit.
        limit: most tokens of the rendered text, or None to keep all units.
    """
    order = sorted(range(len(units)), key=lambda place: -scores[place])
    reasons = _duplicates(context, units, order)
    order = [place for place in order if place not in reasons]
    chosen = order if limit is None else _fill(context, units, order, limit, reasons)
    held = set(chosen)
    for place, (unit, score) in enumerate(zip(units, scores, strict=True)):
        kept = place in held
        reason = "among the best that fit" if kept else reasons.get(place, "score too low for the budget")
        log.decide(context.passages[unit.passage], unit.span, kept=kept, reason=reason, score=score)
    return keep(context, [units[place] for place in chosen])


def _duplicates(context: Context, units: Sequence[Unit], order: Sequence[int]) -> dict[int, str]:
    """The units that say word for word what a better one says, and of which passage each is a duplicate.

    Short texts are left alone: a closing bracket or "Yes." means something else in each place. So are those of passages
    with different titles: "He was born in Lyon." is about somebody else there.
    """
    first: dict[str, dict[str, int]] = {}  # by what is said, the best unit under each title
    reasons: dict[int, str] = {}
    for place in order:
        said = " ".join(text_of(context, units[place]).casefold().split())
        if len(said) < _SHORTEST_DUPLICATE:
            continue
        title = context.passages[units[place].passage].title
        seen = first.setdefault(said, {})
        if (twin := seen.get(title, seen.get("") if title else next(iter(seen.values()), None))) is None:
            seen[title] = place
        else:
            reasons[place] = f"says the same as passage {context.passages[units[twin].passage].rank or 0}"
    return reasons


def _fill(
    context: Context, units: Sequence[Unit], order: Sequence[int], limit: int, reasons: dict[int, str]
) -> list[int]:
    """The best units that fit together, and after the first that does not, later ones that still do."""

    def tokens(places: Sequence[int]) -> int:
        return keep(context, [units[place] for place in places]).tokens

    if (total := tokens(order)) <= limit:
        return list(order)
    length, used = longest_prefix(
        [len(units[place].span) for place in order], lambda n: tokens(order[:n]), limit, total
    )
    if not length:
        best = context.count(text_of(context, units[order[0]]))
        reasons[order[0]] = f"does not fit ({best} tokens, {limit} left)"
        reasons.update(dict.fromkeys(order[1:], "ranks behind what does not fit"))
        return []
    chosen, failures = list(order[:length]), 0
    passed = [(order[length], limit - used)]  # what ranks higher than all that may still fit, and the room it had
    for place in order[length + 1 :]:
        # What a unit takes alone, without its heading, is cheap to count and rules most of them out.
        fits = limit - used >= context.count(text_of(context, units[place])) - 1
        if fits and (grown := tokens([*chosen, place])) <= limit:
            chosen.append(place)
            # What was passed over for this one did not fit: that is the reason, and not its score.
            for other, left in passed:
                reasons[other] = f"does not fit ({context.count(text_of(context, units[other]))} tokens, {left} left)"
            passed, used = [], grown
            continue
        passed.append((place, limit - used))
        if fits and (failures := failures + 1) == _FAILURES:
            break
    return chosen


def longest_prefix(lengths: Sequence[int], tokens: Callable[[int], int], limit: int, total: int) -> tuple[int, int]:
    """How many of the first units fit, and their tokens, by the exact count of the rendered text.

    Counting is dear and characters foretell tokens well: the place is guessed from them, in turn with halving.

    Args:
        lengths: characters of each unit.
        tokens: of the first n units together.
        limit: most tokens.
        total: tokens of all units.
    """
    ends = [0, *accumulate(lengths)]
    low, used, high, over = 0, 0, len(lengths), total
    halve = False
    while high - low > 1:
        if halve:
            middle = (low + high) // 2
        else:
            place = ends[low] + (ends[high] - ends[low]) * (limit - used) / (over - used)
            middle = min(max(bisect_right(ends, place) - 1, low + 1), high - 1)
        halve = not halve
        if (count := tokens(middle)) <= limit:
            low, used = middle, count
        else:
            high, over = middle, count
    return low, used
