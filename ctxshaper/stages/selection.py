"""Choosing text under a budget: the part that every selecting stage shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ctxshaper.context import Context, Passage, Span, merge_spans
from ctxshaper.reading.segments import blocks, sentences
from ctxshaper.stages.base import Log

Unit = Literal["sentence", "block", "passage"]

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
    if keep(context, ranked).tokens <= limit:
        return list(ranked)
    costs = [context.count(_text(context, c)) + 1 for c in ranked]
    heads = _heading_costs(context, ranked)

    def greedy(room: float) -> list[int]:
        chosen, opened, used = [], set(), 0.0
        for index, candidate in enumerate(ranked):
            cost = costs[index] + (0 if candidate.passage in opened else heads[candidate.passage])
            if used + cost <= room:
                chosen.append(index)
                opened.add(candidate.passage)
                used += cost
        return chosen

    def tokens(chosen: Sequence[int]) -> int:
        return keep(context, [ranked[i] for i in chosen]).tokens

    # Counts of pieces do not add up to the count of the text: guess, count the text itself, correct the guess once.
    chosen = greedy(limit)
    actual = tokens(chosen)
    if chosen and actual:
        estimate = sum(costs[i] for i in chosen) + sum(heads[p] for p in {ranked[i].passage for i in chosen})
        corrected = greedy(limit * estimate / actual)
        if corrected != chosen:
            chosen, actual = corrected, tokens(corrected)
    while chosen and actual > limit:
        chosen.pop()
        actual = tokens(chosen)
    # What is left of the budget goes to the next best units that fit by the exact count.
    held, tries = set(chosen), 0
    for index in range(len(ranked)):
        if index not in held and costs[index] - 1 <= limit - actual:
            grown = sorted([*chosen, index])
            if (count := tokens(grown)) <= limit:
                chosen, actual = grown, count
            tries += 1
            if tries == 4:
                break
    return [ranked[i] for i in chosen]


def _text(context: Context, candidate: Candidate) -> str:
    passage = context.passages[candidate.passage]
    return passage.text if passage.generated else passage.source[candidate.span.start : candidate.span.end]


def _heading_costs(context: Context, ranked: Sequence[Candidate]) -> dict[int, int]:
    rendering, body = context.rendering, "x"
    plain = context.count(body)
    return {
        index: context.count(rendering.separator + rendering.render([_stub(context.passages[index])])) - plain
        for index in {c.passage for c in ranked}
    }


def _stub(passage: Passage) -> Passage:
    return Passage("x", metadata=passage.metadata)
