"""GemFilter: early layers already know what matters (arXiv 2409.17422)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.reader import Reader
from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.selection import Candidate, select, units_of


@dataclass(frozen=True, kw_only=True)
class GemFilter(Stage):
    """Selects the prompt's tokens that an early layer's last row points at (Shi et al., arXiv 2409.17422, section 3).

    The rule: at the filter layer r, the last prompt token's queries after rotary are multiplied with all keys after
    rotary, without 1/sqrt(d) and without softmax, summed over heads, average-pooled over 5 tokens; the k highest
    tokens are kept in their original order. Here the candidates are the passages' tokens: the question and the
    prompt's frame are not part of the context and stay with the caller.

    Attributes:
        k: how many tokens to keep; None means as many as the budget allows.
        unit: "token" keeps the tokens of the paper's rule; "sentence" or "block" keeps whole units by the mean score
            of their tokens, so that words and numbers stay whole.
        reading: "causal" reads the whole prompt, as the paper does; "independent" reads each passage by itself and
            remembers it.
        calibrated: with causal reading, take off what a place in the prompt gets whatever stands there (Found in the
            Middle, arXiv 2406.16008); twice the reading. See `Reader.read_gem`.
        reader: reads; a pipeline's own if None.
    """

    needs: ClassVar[tuple[str, ...]] = ("reader",)

    k: int | None = None
    unit: Literal["token", "sentence", "block"] = "token"
    reading: Literal["causal", "independent"] = "causal"
    calibrated: bool = False
    reader: Reader | None = None

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

    def shape(self, context: Context, log: Log) -> Context:
        """Apply the rule of the class."""
        if not context.passages:
            return context
        reader, independent = self.reader or Reader(), self.reading == "independent"
        reading = reader.read_gem(context.query, context.passages, independent=independent, calibrated=self.calibrated)
        log.notes.update(reading.notes)
        candidates = []
        for index, (passage, read) in enumerate(zip(context.passages, reading.passages, strict=True)):
            if self.unit == "token":
                offered = [
                    (Span(int(a), int(b)), float(s)) for (a, b), s in zip(read.offsets, read.scores, strict=True)
                ]
                offered = [(o, s) for o, s in offered if any(o.overlaps(kept) for kept in passage.spans)]
            else:
                units = units_of(passage, self.unit)
                offered = list(zip(units, map(float, read.span_scores(units)), strict=True))
            candidates += [Candidate(index, span, score) for span, score in offered]
        if self.k is not None:
            candidates = self._best(candidates)
        if self.unit == "token":
            return self._tokens(context, candidates, log)
        return select(context, candidates, log, context.limit)

    def _best(self, candidates: list[Candidate]) -> list[Candidate]:
        best = sorted(candidates, key=lambda c: -c.score)
        if self.unit == "token":
            return best[: self.k]
        return best

    def _tokens(self, context: Context, candidates: list[Candidate], log: Log) -> Context:
        """The most of the best tokens whose rendered text fits: found by bisection, since counting is exact only so."""
        from ctxshaper.stages.selection import keep

        best = sorted(candidates, key=lambda c: -c.score)
        low, high = 0, len(best)
        if context.limit is not None and keep(context, best).tokens > context.limit:
            while high - low > 1:
                middle = (low + high) // 2
                if keep(context, best[:middle]).tokens <= context.limit:
                    low = middle
                else:
                    high = middle
            best = best[:low]
        log.notes["tokens_kept"] = len(best)
        log.notes["lowest_score"] = float(np.float32(best[-1].score)) if best else None
        return keep(context, best)
