"""GemFilter: early layers already know what matters (arXiv 2409.17422)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.base import Stage
from ctxshaper.stages.run import Log, Run
from ctxshaper.stages.trimming import select_or_trim
from ctxshaper.stages.units import Unit, by_passage, keep, units_of

if TYPE_CHECKING:
    from ctxshaper.reading.reading import Reading


@dataclass(frozen=True, kw_only=True)
class GemFilter(Stage):
    """Selects the prompt's tokens that an early layer's last row points at (Shi et al., arXiv 2409.17422, section 3).

    The rule: at the filter layer r, the last prompt token's queries after rotary are multiplied with all keys after
    rotary, without 1/sqrt(d) and without softmax, summed over heads, average-pooled over 5 tokens; the k highest
    tokens are kept in their original order. Here the candidates are the passages' tokens: the question and the
    prompt's frame are not part of the context and stay with the caller.

    Attributes:
        k: how many tokens to keep, counted as the reader counts them; of whole units, as many of the best as have at
            most k tokens together. None means as many as the budget allows.
        unit: "token" keeps the tokens of the paper's rule; "sentence" or "block" keeps whole units by the mean score
            of their tokens, so that words and numbers stay whole.
        reading: "causal" reads the whole prompt, as the paper does; "independent" reads each passage by itself and
            remembers it.
        calibrated: with causal reading, take off what a place in the prompt gets whatever stands there (Found in the
            Middle, arXiv 2406.16008); twice the reading. See `Reader.read_gem`.
    """

    k: int | None = None
    unit: Literal["token", "sentence", "block"] = "token"
    reading: Literal["causal", "independent"] = "causal"
    calibrated: bool = False

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise InvalidInputError(f"GemFilter keeps k >= 1 tokens, but got k={self.k}; leave k out to use the budget")
        if self.unit not in ("token", "sentence", "block") or self.reading not in ("causal", "independent"):
            raise InvalidInputError(
                f"GemFilter takes unit token, sentence or block and reading causal or independent, "
                f"but got {self.unit!r} and {self.reading!r}"
            )

        if self.calibrated and self.reading == "independent":
            raise InvalidInputError(
                "GemFilter(calibrated=True) needs reading causal: read independently, all passages have the same "
                "place, and there is nothing to calibrate"
            )

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        if not context.passages:
            return context
        asked, passages, alone = context.query, context.passages, self.reading == "independent"
        reading = run.reading(
            passages,
            lambda: run.parts.reader.read_gem(asked, passages, independent=alone, calibrated=self.calibrated),
        )
        if self.unit == "token":
            return self._tokens(context, reading, run.log)
        units = units_of(context, self.unit)
        scores, sizes = span_means(reading, units)
        if self.k is not None:
            units, scores = self._first(context, units, scores, sizes, run.log)
        return select_or_trim(
            context, units, scores, run.log, context.limit, lambda parts: span_means(reading, parts)[0]
        )

    def _first(
        self, context: Context, units: list[Unit], scores: list[float], sizes: list[int], log: Log
    ) -> tuple[list[Unit], list[float]]:
        """The best units that together have at most k tokens; at least the best one."""
        order = sorted(range(len(units)), key=lambda place: -scores[place])
        held, chosen = 0, set[int]()
        for place in order:
            if chosen and held + sizes[place] > (self.k or 0):
                break
            chosen.add(place)
            held += sizes[place]
        for place, (unit, score) in enumerate(zip(units, scores, strict=True)):
            if place not in chosen:
                log.drop(context.passages[unit.passage], [unit.span], f"not among the best {self.k} tokens", score)
        return [u for i, u in enumerate(units) if i in chosen], [s for i, s in enumerate(scores) if i in chosen]

    def _tokens(self, context: Context, reading: Reading, log: Log) -> Context:
        """The best k tokens, and of these the most whose rendered text fits: counting is exact only by rendering."""
        offered = [
            (float(score), Unit(index, Span(int(start), int(end))))
            for index, read in enumerate(reading.passages)
            for (start, end), score in zip(read.offsets, read.scores, strict=True)
            if start < end
        ]
        best = [unit for _, unit in sorted(offered, key=lambda one: -one[0])][: self.k]

        def fits(count: int) -> bool:
            return context.limit is None or keep(context, best[:count]).tokens <= context.limit

        low, high = 0, len(best)
        if fits(high):
            low = high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        log.notes["tokens_kept"] = low
        return keep(context, best[:low])


def span_means(reading: Reading, units: Sequence[Unit]) -> tuple[list[float], list[int]]:
    """Of each unit the mean score of its tokens, and their number."""
    scores: list[float] = []
    sizes: list[int] = []
    for passage, places in by_passage(units).items():
        read = reading.passages[passage]
        # Units of the source are disjoint; the support of written pieces may overlap, and is asked one by one.
        written = any(units[place].written is not None for place in places)
        for group in [[place] for place in places] if written else [places]:
            spans = [units[place].span for place in group]
            scores += read.span_scores(spans).tolist()
            sizes += read.span_tokens(spans).tolist()
    return scores, sizes
