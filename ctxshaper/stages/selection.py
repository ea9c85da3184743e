"""Choosing text under a budget: the part that every selecting stage shares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from ctxshaper.data import Context, Decision, Kept, Passage, Span, Written, merge_spans
from ctxshaper.stages.run import Log
from ctxshaper.text.remembered import Lately
from ctxshaper.text.segments import blocks, sentences

UnitKind = Literal["sentence", "block", "passage"]

# So many units that nearly fit are tried in vain before a budget counts as full: set by hand; each try counts tokens.
_FAILURES = 8
# So many units behind the best are looked at for one that still fits; what ranks lower is no evidence. Set by hand.
_LOOKED = 1000


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


# Characters of sources whose segments and units are kept for the next request: more than 8,000 passages of one.
_CHARACTERS = 2**24
_KNOWN: Lately[tuple[str, str], tuple[Span, ...]] = Lately(_CHARACTERS)
_UNITS: Lately[tuple[str, int, str], list[Unit]] = Lately(_CHARACTERS)


def units_of(context: Context, kind: UnitKind) -> list[Unit]:
    """What may be kept or dropped of a context, in reading order: segments of the sources, within what is still kept.

    A written piece is one unit.
    """
    return [unit for index, passage in enumerate(context.passages) for unit in _units(index, passage, kind)]


def _units(index: int, passage: Passage, kind: UnitKind) -> list[Unit]:
    if kind != "passage" and len(passage.pieces) == 1 and passage.complete:
        return _whole(index, passage.source, kind)
    if not passage.text.strip():
        return []
    if kind == "passage":
        hull = Span(passage.spans[0].start, passage.spans[-1].end) if passage.spans else Span(0, 0)
        return [Unit(index, hull, whole=True)]
    segments = _segments(passage.source, kind)
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


def _segments(source: str, kind: UnitKind) -> tuple[Span, ...]:
    """The segments of a source; a further query is mostly about the same sources."""
    name, cost = (kind, source), len(source)
    spans = _KNOWN.get(name, cost)
    if spans is None:
        spans = _SEGMENT[kind](source)
        _KNOWN.put(name, spans, cost)
    return spans


def _whole(index: int, source: str, kind: UnitKind) -> list[Unit]:
    """The units of a passage of which all is kept; not to be changed."""
    name, cost = (kind, index, source), len(source)
    units = _UNITS.get(name, cost)
    if units is None:
        spans = (span for span in _segments(source, kind) if source[span.start : span.end].strip())
        units = [Unit(index, span) for span in spans]
        _UNITS.put(name, units, cost)
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
    for index in sorted({*whole, *spans, *written}):
        passage = context.passages[index]
        if index in whole or _is_all(passage, spans.get(index, ()), written.get(index, ())):
            kept.append(passage)  # a passage kept whole stays the object it was
        else:
            kept.append(passage.keep(spans.get(index, ()), written.get(index, ())))
    return context.with_passages(kept)


def _is_all(passage: Passage, spans: Sequence[Span], written: Sequence[int]) -> bool:
    if len(written) != sum(isinstance(piece, Written) for piece in passage.pieces) or not (spans or written):
        return False
    return merge_spans(spans) == merge_spans(piece.span for piece in passage.pieces if isinstance(piece, Kept))


def select(context: Context, units: Sequence[Unit], scores: Sequence[float], log: Log, limit: int | None) -> Context:
    """Keep the best units that fit into a limit, counted in the generator's tokens over the rendered text.

    Units are taken by score; one that does not fit is passed over for the next that does. The limit is never
    exceeded: where not even the best unit fits, nothing is kept, and a warning says so.

    Args:
        context: what to shape.
        units: all units; equal scores are taken in reading order.
        scores: one per unit.
        log: takes the decision on each unit.
        limit: most tokens of the rendered text, or None to keep all units.
    """
    order = sorted(range(len(units)), key=lambda place: -scores[place])
    reasons: dict[int, str] = {}
    chosen = order if limit is None else _fill(context, units, order, limit, reasons)
    if units and not chosen:
        log.warnings.append(f"nothing is kept: the best unit alone takes more than the budget of {limit} tokens")
    held, ranks = set(chosen), [passage.rank or 0 for passage in context.passages]
    for place, (unit, score) in enumerate(zip(units, scores, strict=True)):
        kept = place in held
        reason = "among the best that fit" if kept else reasons.get(place, "score too low for the budget")
        log.decisions.append(Decision(ranks[unit.passage], unit.span, kept, reason, score))
    return keep(context, [units[place] for place in chosen])


def _fill(
    context: Context, units: Sequence[Unit], order: Sequence[int], limit: int, reasons: dict[int, str]
) -> list[int]:
    """The best units that fit together, and after the first that does not, later ones that still do."""

    def tokens(places: Sequence[int]) -> int:
        return keep(context, [units[place] for place in places]).tokens

    # What a character takes is known from the context as it came.
    rate = max(context.tokens, 1) / max(len(context.text), 1)
    length, used = _longest_prefix(
        [len(units[place].span) for place in order], lambda n: tokens(order[:n]), limit, rate
    )
    if length == len(order):
        return list(order)
    chosen, failures = list(order[:length]), 0
    passed = [(order[length], limit - used)]  # what ranks higher than all that may still fit, and the room it had
    for place in order[length + 1 : length + 1 + _LOOKED]:
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


def _longest_prefix(lengths: Sequence[int], tokens: Callable[[int], int], limit: int, rate: float) -> tuple[int, int]:
    """How many of the first units fit, and their tokens, by the exact count of the rendered text.

    Counting is dear and characters foretell tokens well: the place is guessed from them, with ever larger steps until
    too much is tried, then in turn with halving. So what is counted is little more than what fits, however much does
    not.

    Args:
        lengths: characters of each unit.
        tokens: of the first n units together.
        limit: most tokens.
        rate: tokens of a character, about.
    """
    ends = [0, *accumulate(lengths)]
    low, used, high, over = 0, 0, len(lengths) + 1, 0
    halve, step = False, 0
    while high - low > 1:
        if high > len(lengths):
            # Nothing that was tried was too much: on by an eighth of the first guess, a quarter, a half.
            middle = low + step if low else bisect_right(ends, limit / rate)
            middle, step = min(max(middle, low + 1), len(lengths)), 2 * step or max(1, middle // 8)
        elif halve:
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
