"""Choosing text under a budget: the part that every selecting stage shares."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from ctxshaper.data import Context, Decision
from ctxshaper.stages.companions import Companions, companions_of
from ctxshaper.stages.run import Log
from ctxshaper.stages.units import Unit, keep, text_of

# Shorter texts are not looked for twice, in characters: set by hand, about four words.
_SHORTEST_DUPLICATE = 20
# So many units that nearly fit are tried in vain before a budget counts as full: set by hand; each try counts tokens.
_FAILURES = 8
# So many units behind the best are looked at for one that still fits; what ranks lower is no evidence. Set by hand.
_LOOKED = 1000


def select(
    context: Context,
    units: Sequence[Unit],
    scores: Sequence[float],
    log: Log,
    limit: int | None,
    ruled_out: Mapping[int, str] | None = None,
) -> Context:
    """Keep the best units that fit into a limit, counted in the generator's tokens over the rendered text.

    A sentence that several passages hold is kept once. A unit brings what it cannot be read without
    (`ctxshaper.stages.companions`), and is charged for it. Units are taken by score; one that does not fit is passed
    over for the next that does. The limit is never exceeded: where not even the best unit fits, nothing is kept, not
    worse ones in its place; see `select_or_trim`.

    Args:
        context: what to shape.
        units: all units; equal scores are taken in reading order.
        scores: one per unit.
        log: takes the decision on each unit.
        limit: most tokens of the rendered text, or None to keep all units.
        ruled_out: by unit that a method drops whatever the budget, the reason; others may still bring it along.
    """
    reasons = dict(ruled_out or {})
    order = sorted((place for place in range(len(units)) if place not in reasons), key=scores.__getitem__, reverse=True)
    order = _distinct(context, units, order, limit, reasons)
    companions = companions_of(context, units)
    chosen = list(order) if limit is None else _fill(context, units, order, limit, reasons, companions)
    kept_places = companions.closed(chosen)
    held, brought = set(kept_places), set(kept_places) - set(chosen)
    ranks = [passage.rank or 0 for passage in context.passages]
    reasons |= dict.fromkeys(held, "among the best that fit")
    reasons |= dict.fromkeys(brought, "brought along by what stands under it")
    log.decisions += [
        Decision(
            ranks[unit.passage], unit.span, place in held, reasons.get(place, "score too low for the budget"), score
        )
        for place, (unit, score) in enumerate(zip(units, scores, strict=True))
    ]
    return keep(context, [units[place] for place in kept_places])


def _distinct(
    context: Context, units: Sequence[Unit], order: Sequence[int], limit: int | None, reasons: dict[int, str]
) -> list[int]:
    """The units that may be kept, without duplicates: all, or under a limit the best, twice as many as may fit."""
    reach, room = len(order), 0.0
    if limit is not None:
        room = 2 * limit / _rate(context)
        reach = bisect_right(list(accumulate(len(units[place].span) for place in order)), room) + _LOOKED
    while True:
        duplicates = _duplicates(context, units, order[:reach])
        left = [place for place in order[:reach] if place not in duplicates]
        if reach >= len(order) or sum(len(units[place].span) for place in left[:-_LOOKED]) >= room:
            reasons |= duplicates
            return left
        reach *= 2  # most were duplicates


def _rate(context: Context) -> float:
    """Tokens of a character, as known from the context as it came."""
    return max(context.tokens, 1) / max(len(context.text), 1)


def _duplicates(context: Context, units: Sequence[Unit], order: Sequence[int]) -> dict[int, str]:
    """The units that say word for word what a better one says, and of which passage each is a duplicate.

    Short texts are left alone: a closing bracket or "Yes." means something else in each place. So are those of passages
    with different titles: "He was born in Lyon." is about somebody else there.
    """
    first: dict[str, dict[str, int]] = {}  # by what is said, the best unit under each title
    reasons: dict[int, str] = {}
    for place in order:
        said = text_of(context, units[place]).strip()
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
    context: Context,
    units: Sequence[Unit],
    order: Sequence[int],
    limit: int,
    reasons: dict[int, str],
    companions: Companions,
) -> list[int]:
    """The best units that fit together, and after the first that does not, later ones that still do."""

    def tokens(places: Sequence[int]) -> int:
        return keep(context, [units[place] for place in companions.closed(places)]).tokens

    lengths = [len(units[place].span) for place in order]
    length, used = longest_prefix(lengths, lambda n: tokens(order[:n]), limit, _rate(context))
    if length == len(order):
        return list(order)
    if not length:
        best = context.count(text_of(context, units[order[0]]))
        reasons[order[0]] = f"does not fit ({best} tokens, {limit} left)"
        reasons.update(dict.fromkeys(order[1:], "ranks behind what does not fit"))
        return []
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


def longest_prefix(lengths: Sequence[int], tokens: Callable[[int], int], limit: int, rate: float) -> tuple[int, int]:
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
