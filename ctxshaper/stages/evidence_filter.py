"""EvidenceFilter: keeps the text that a reader's relevance heads attend to. This project's own method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.models.embedder import Embedder
from ctxshaper.ranking.lexical import bm25
from ctxshaper.ranking.links import link_features, title_links
from ctxshaper.reading.reader import Reader
from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.selection import Candidate, Unit, select, units_of

# Weights of what `features` gives: log attention of the unit and of its passage, z-scored similarity by embedding and
# by BM25. Fitted by listwise logistic regression over a question's sentences (benchmarks/evidence.py), so that a score
# is the log-odds of being evidence and an adaptive budget can read scores as probabilities.
ATTENTION_WEIGHTS = (1.0, 1.0, 0.0, 0.0)
FUSED_WEIGHTS = (0.4, 0.6, 0.25, 0.55)
# Weights of what `link_features` gives: the evidence names this passage; this unit names the evidence's passage.
LINK_WEIGHTS = (1.3, 0.5)
# Best units that join the query for the second look, and the share of the second look in the score.
_HOP_UNITS, _HOP_SHARE = 2, 0.2
# The chance that signals mislead together and the evidence just stands in a passage that resembles the question; and
# how much that resemblance and, within the passage, log attention then count. Set by hand: anything near does as well.
_HEDGE, _ALIKE, _ATTENDED = 0.2, 2.0, 0.5


@dataclass(frozen=True, kw_only=True)
class EvidenceFilter(Stage):
    """Keeps the units of text that are most likely evidence for an answer, within the budget.

    A unit's score is the logarithm of the attention that its tokens receive from the question's tokens at the reader's
    relevance heads (mean per token: no length bias), plus the same of its whole passage; where asked for, plus
    similarity by embedding and BM25 with the passage's title in front. Then passages lend to each other: a likely unit
    that names another passage's title makes that passage more likely, and a unit that names a likely passage is more
    likely itself (a step that multi-hop questions take; the hyperlink hops of arXiv 1911.10470, without a trained
    retriever). Passages are read independently and remembered (Block-Attention, arXiv 2409.15355, untuned), so the
    scores do not depend on their order; which heads count is the head profile's matter (QRHead, arXiv 2506.09944).
    With `embedding`, the score is mixed with a simpler one, by which a passage that resembles the question holds the
    evidence: a product of signals is sure of itself where they err together, a mixture is not. The order of passages
    and units is kept.

    With an adaptive budget, units are kept until they hold `confidence` of the probability of being evidence.

    Attributes:
        unit: what is kept or dropped whole: "sentence", "block" (paragraph, list item, row, code) or "passage".
        embedding: whether similarity by embedding counts too.
        bm25: whether BM25 counts too.
        second_hop: whether the best units join the query for a second look over the same memories.
        confidence: the share of the probability that an adaptive budget keeps, in (0, 1].
        reader: reads; a pipeline's own if None.
        embedder: embeds; a pipeline's own if None.
    """

    needs: ClassVar[tuple[str, ...]] = ("reader", "embedder")

    unit: Unit = "sentence"
    embedding: bool = False
    bm25: bool = False
    second_hop: bool = False
    confidence: float = 0.9
    reader: Reader | None = None
    embedder: Embedder | None = None

    def __post_init__(self) -> None:
        if self.unit not in ("sentence", "block", "passage"):
            raise InvalidInputError(f"unit must be sentence, block or passage, but got {self.unit!r}")
        if not 0 < self.confidence <= 1:
            raise InvalidInputError(f"confidence must lie above 0 and at most 1, but got {self.confidence}")

    def shape(self, context: Context, log: Log) -> Context:
        """Apply the rule of the class."""
        if not context.budget.adaptive and (context.limit is None or context.tokens <= context.limit):
            log.notes["fits_already"] = True
            return context
        units = [units_of(passage, self.unit) for passage in context.passages]
        if not any(units):
            return context.with_passages(())
        weights = np.array(FUSED_WEIGHTS if self.embedding or self.bm25 else ATTENTION_WEIGHTS)
        known = self.features(context, units, context.query, log)
        scores = known @ weights
        if self.second_hop:
            second = self.features(context, units, self.second_query(context, units, scores), log) @ weights
            scores = self.join_hops(scores, second)
        scores = scores + self.links(context, units, scores) @ np.array(LINK_WEIGHTS)
        if self.embedding:
            scores = self.hedged(context, units, known, scores)
        flat = [(index, span) for index, spans in enumerate(units) for span in spans]
        candidates = [Candidate(index, span, float(s)) for (index, span), s in zip(flat, scores, strict=True)]
        if context.budget.adaptive:
            candidates = self._confident(context, candidates, log)
        log.notes["units"] = len(flat)
        return select(context, candidates, log, context.limit)

    def features(self, context: Context, units: Sequence[Sequence[Span]], query: str, log: Log) -> NDArray[np.float64]:
        """What is known of each unit: one row per unit, in reading order.

        Args:
            context: holds the passages.
            units: by passage, sorted and disjoint.
            query: what is asked.
            log: takes what the reading took.

        Returns:
            [number of units, 4]: log attention of the unit, log attention of its passage (both times the number of
            tokens, so that 0 is the average), z-scored similarity by embedding, z-scored BM25; 0 where not asked for.
        """
        owners = np.repeat(np.arange(len(units)), [len(u) for u in units])
        reading = (self.reader or Reader()).read(query, context.passages)
        log.notes.setdefault("readings", []).append(dict(reading.notes))
        mass = np.concatenate([r.span_scores(u) for r, u in zip(reading.passages, units, strict=True)])
        sizes = np.concatenate([r.span_tokens(u) for r, u in zip(reading.passages, units, strict=True)])
        mass = np.maximum(mass, 0.0) * max(1, int(sizes.sum()))
        per_passage = np.bincount(owners, weights=mass * sizes) / np.maximum(np.bincount(owners, weights=sizes), 1)
        table = np.zeros((len(owners), len(FUSED_WEIGHTS)))
        # The floor keeps units without any attention apart from each other's logarithms of nothing.
        table[:, 0] = np.log(mass + 1e-3)
        table[:, 1] = np.log(per_passage + 1e-3)[owners]
        if self.embedding:
            table[:, 2] = _standard((self.embedder or Embedder()).similarity(query, _titled(context, units)))
        if self.bm25:
            table[:, 3] = _standard(bm25(query, _titled(context, units)))
        return table

    def second_query(self, context: Context, units: Sequence[Sequence[Span]], scores: NDArray[np.float64]) -> str:
        """The query with the best units behind it, for a second look."""
        flat = [(index, span) for index, spans in enumerate(units) for span in spans]
        best = [flat[i] for i in np.argsort(-scores, kind="stable")[:_HOP_UNITS]]
        known = (context.passages[i].source[s.start : s.end].strip()[:300] for i, s in best)
        return " ".join([context.query, *known])

    def join_hops(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        """[number of units] the scores of both looks as one."""
        return (1 - _HOP_SHARE) * first + _HOP_SHARE * second

    def links(
        self, context: Context, units: Sequence[Sequence[Span]], scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """What the titles that units name say of each unit, given its score by itself.

        Args:
            context: holds the passages.
            units: by passage, sorted and disjoint.
            scores: [number of units] log-odds, up to a constant.

        Returns:
            [number of units, 2], see `link_features`; 0 where passages have no titles.
        """
        owners = np.repeat(np.arange(len(units)), [len(u) for u in units])
        texts = [p.source[s.start : s.end] for p, spans in zip(context.passages, units, strict=True) for s in spans]
        return link_features(title_links([p.title for p in context.passages], texts, owners), owners, scores)

    def hedged(
        self,
        context: Context,
        units: Sequence[Sequence[Span]],
        features: NDArray[np.float64],
        scores: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Scores mixed with those of resemblance: what is likely by either is likely.

        A passage's embedding is the mean of its units', by their lengths: it needs no further pass of the embedder.

        Args:
            context: holds the passages.
            units: by passage, sorted and disjoint.
            features: what `features` gives.
            scores: [number of units] log-odds, up to a constant.

        Returns:
            [number of units] log-probabilities.
        """
        embedder = self.embedder or Embedder()
        vectors, asked = embedder.embed(_titled(context, units)), embedder.embed([context.query])[0]
        lengths = np.array([[len(s)] for spans in units for s in spans])
        ends = np.cumsum([0, *map(len, units)])
        alike = np.zeros(len(scores))
        for start, end in pairwise(ends):
            mean = (vectors[start:end] * lengths[start:end]).sum(0)
            alike[start:end] = mean @ asked / max(float(np.linalg.norm(mean)), 1e-9)
        resembling = _ALIKE * _standard(alike) + _ATTENDED * features[:, 0]
        result: NDArray[np.float64] = np.logaddexp(
            np.log(1 - _HEDGE) + _log_probabilities(scores), np.log(_HEDGE) + _log_probabilities(resembling)
        )
        return result

    def _confident(self, context: Context, candidates: list[Candidate], log: Log) -> list[Candidate]:
        ranked = sorted(candidates, key=lambda c: -c.score)
        odds = np.exp(np.array([c.score for c in ranked]) - ranked[0].score)
        reached = np.cumsum(odds / odds.sum())
        enough = int(np.searchsorted(reached, self.confidence)) + 1
        for candidate in ranked[enough:]:
            passage = context.passages[candidate.passage]
            log.drop(passage, [candidate.span], "unlikely to be evidence", candidate.score)
        log.notes["confidence"] = float(reached[min(enough, len(reached)) - 1])
        kept = set(map(id, ranked[:enough]))
        return [c for c in candidates if id(c) in kept]


def _titled(context: Context, units: Sequence[Sequence[Span]]) -> list[str]:
    """The units' texts, each with its passage's title in front."""
    pairs = zip(context.passages, units, strict=True)
    return [(f"{p.title}: " if p.title else "") + p.source[s.start : s.end].strip() for p, u in pairs for s in u]


def _log_probabilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max()
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z-scores; all 0 where the values do not differ."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)
