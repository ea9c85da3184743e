"""Cuts a unit that is too long for a budget at its finest natural borders, around what tells most."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from ctxshaper.data import Context, Span, gaps, intersect, merge_spans
from ctxshaper.stages.companions import companions_of
from ctxshaper.stages.run import Log
from ctxshaper.stages.selection import longest_prefix, select
from ctxshaper.stages.units import Unit, keep, text_of, units_of

Rescore = Callable[[Sequence[Unit]], Sequence[float]]

# So many pieces are scored at once; more are put together first, and the best group is looked at by itself.
_MOST = 64
# A string without a break, such as base64, is cut into pieces of so many characters.
_UNBROKEN = 24
_CLAUSE = re.compile(r"[.!?;:,—–](?=\s)|[；：，、。！？।؛،]")
_WORD = re.compile(r"\s(?=\S)|[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def select_or_trim(
    context: Context,
    units: Sequence[Unit],
    scores: Sequence[float],
    log: Log,
    limit: int | None,
    rescore: Rescore,
    ruled_out: Mapping[int, str] | None = None,
) -> Context:
    """Keep the best units that fit; where not even the best one does, the part of it that tells most.

    Args:
        context: what to shape.
        units: all units; equal scores are taken in reading order.
        scores: one per unit.
        log: takes the decision on each unit, and a warning where one was cut or nothing is left.
        limit: most tokens of the rendered text, or None to keep all units.
        rescore: scores parts of one unit as it was scored; one number per part.
        ruled_out: by unit that a method drops whatever the budget, the reason.
    """
    decided = len(log.decisions)
    shaped = select(context, units, scores, log, limit, ruled_out)
    ranked = [place for place in range(len(units)) if place not in (ruled_out or {})]
    if units and not ranked:
        log.warnings.append("nothing is kept: no unit is likely to be evidence")
    if shaped.passages or not ranked or limit is None:
        return shaped
    place = _telling(max(ranked, key=lambda place: scores[place]), context, units)
    unit, passage = units[place], context.passages[units[place].passage]
    parts = trim(context, unit, rescore, limit)
    if not parts:
        log.warnings.append(f"nothing is kept: not even a part of the best unit fits into {limit} tokens")
        return shaped
    kept = merge_spans(part.span for part in parts)
    if kept == (unit.span,):
        # It fits by itself, without the headings that it stands under.
        log.decisions[decided + place] = replace(
            log.decisions[decided + place], kept=True, reason="fits without what it stands under"
        )
        return keep(context, parts)
    size = keep(context, [unit]).tokens  # rendered, its title included
    del log.decisions[decided + place]  # the unit is no longer dropped whole
    for span in kept:
        log.decide(passage, span, kept=True, reason="the part that fits", score=scores[place])
    log.drop(
        passage,
        gaps(intersect(passage.spans, [unit.span]), kept),
        f"cut to fit ({size} tokens, {limit} left)",
        scores[place],
    )
    log.warnings.append(f"the best unit was cut to fit: it takes {size} tokens, the budget is {limit}")
    return keep(context, parts)


def _telling(best: int, context: Context, units: Sequence[Unit]) -> int:
    """The unit itself; of a heading, which alone says nothing, the text right under it."""
    below = companions_of(context, units).below
    while best in below:
        best = below[best]
    return best


def trim(context: Context, unit: Unit, rescore: Rescore, limit: int) -> list[Unit]:
    """The part of a unit that fits a limit: the piece that scores best, and what stands around it.

    The unit is cut at line ends; where the best line does not fit either, that line at its clauses, then the best
    clause at its words, and a word at its characters.

    Args:
        context: holds the unit's passage.
        unit: more than the limit takes.
        rescore: scores pieces as the unit was scored; one number per piece.
        limit: most tokens of the rendered text.

    Returns:
        Neighbouring pieces in reading order; none where not even a few characters fit (a title takes tokens too), or
        where the unit was written by a model: half of such a sentence says what nobody wrote.
    """
    if unit.written is not None:
        return []
    pieces = [unit]
    if unit.whole:
        pieces = [one for one in units_of(context, "sentence") if one.passage == unit.passage and one.written is None]
    levels = [_lines, _clauses, _words, _characters]
    while pieces:
        groups = _grouped(pieces)
        scores = list(rescore([Unit(unit.passage, _hull(group)) for group in groups])) if len(groups) > 1 else [0.0]
        order = _outwards(scores)
        if fitting := _fitting(context, [groups[place] for place in order], limit):
            return sorted((piece for group in fitting for piece in group), key=lambda piece: piece.span.start)
        pieces = groups[order[0]]
        if len(pieces) == 1:
            (whole,) = pieces
            while len(pieces) == 1 and levels:
                cut = levels.pop(0)
                spans = _between(text_of(context, whole), whole.span.start, cut)
                pieces = [Unit(unit.passage, span) for span in spans]
            if len(pieces) == 1:
                return []
    return []


def _fitting(context: Context, groups: Sequence[list[Unit]], limit: int) -> Sequence[list[Unit]]:
    """The longest run of groups, taken in this order, that fits."""

    def tokens(count: int) -> int:
        return keep(context, [piece for group in groups[:count] for piece in group]).tokens

    rate = max(context.tokens, 1) / max(len(context.text), 1)
    length, _ = longest_prefix([len(_hull(group)) for group in groups], tokens, limit, rate)
    return groups[:length]


def _grouped(pieces: Sequence[Unit]) -> list[list[Unit]]:
    """Neighbours together, so that at most `_MOST` groups are left."""
    size = -(-len(pieces) // _MOST)
    return [list(pieces[start : start + size]) for start in range(0, len(pieces), size)]


def _hull(group: Sequence[Unit]) -> Span:
    return Span(group[0].span.start, group[-1].span.end)


def _outwards(scores: Sequence[float]) -> list[int]:
    """The best place, then the better of the two next to what is taken, and so on."""
    best = max(range(len(scores)), key=lambda place: scores[place])
    order, left, right = [best], best - 1, best + 1
    while left >= 0 or right < len(scores):
        if right == len(scores) or (left >= 0 and scores[left] > scores[right]):
            order.append(left)
            left -= 1
        else:
            order.append(right)
            right += 1
    return order


def _between(text: str, start: int, cut: Callable[[str], Iterator[int]]) -> list[Span]:
    """The pieces of a text that begins at `start`; those of white space alone join the one before."""
    spans: list[Span] = []
    last = 0
    for end in cut(text):
        if text[last:end].strip():
            spans.append(Span(start + last, start + end))
            last = end
    if spans and not text[last:].strip():
        last = spans.pop().start - start
    return [*spans, Span(start + last, start + len(text))]


def _lines(text: str) -> Iterator[int]:
    return (match.end() for match in re.finditer("\n", text))


def _clauses(text: str) -> Iterator[int]:
    return (match.end() for match in _CLAUSE.finditer(text))


def _words(text: str) -> Iterator[int]:
    return (match.end() for match in _WORD.finditer(text))


def _characters(text: str) -> Iterator[int]:
    """Every so many characters, but not in front of a mark that belongs to the character before."""
    for place in range(_UNBROKEN, len(text), _UNBROKEN):
        end = place
        while end < place + _UNBROKEN and end < len(text) and (unicodedata.combining(text[end]) or _joins(text, end)):
            end += 1
        yield end


def _joins(text: str, place: int) -> bool:
    """Whether a zero-width joiner or a variation selector ties a character to the one before."""
    return text[place] in "\u200d\ufe0f" or text[place - 1] == "\u200d"
