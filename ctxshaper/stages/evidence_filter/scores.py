"""How likely each unit of text is evidence: features, links between passages, and the mixture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Context
from ctxshaper.ranking.lexical import bm25 as bm25_scores
from ctxshaper.ranking.links import link_features, title_links
from ctxshaper.ranking.walks import name_links, walked
from ctxshaper.reading.unit_scores import unit_scores
from ctxshaper.stages.run import Run
from ctxshaper.stages.units import Unit, by_passage, text_of, titled_texts

Numbers = NDArray[np.float64]

# Weights of what `features` gives: log attention of the unit and of its passage, z-scored similarity by embedding and
# by BM25. Fitted by listwise logistic regression over a question's sentences (python -m benchmarks evidence), so that
# a score is the log-odds of being evidence and an adaptive budget can read scores as probabilities.
ATTENTION_WEIGHTS = (1.0, 1.0, 0.0, 0.0)
FUSED_WEIGHTS = (0.4, 0.6, 0.25, 0.55)
# Weights of what `link_features` gives: the evidence names this passage; this unit names the evidence's passage.
LINK_WEIGHTS = (1.3, 0.5)
# The mixture: the chance that signals mislead together and the evidence just stands in a passage that resembles the
# question, or just is a sentence that does; how much that resemblance counts, and log attention beside it. Set by hand:
# shares of .15 to .3 and of .05 to .2 and weights of 1.5 to 4 gave the same evidence on nq20_hard, and within .016 of
# it on HotpotQA.
_MIXED, _ALIKE = 0.2, 2.0
_MIXED_SENTENCE, _ALIKE_SENTENCE = 0.1, 3.0
_ATTENDED = 0.5
# The floor keeps units without any attention apart from each other's logarithms of nothing.
_FLOOR = 1e-3


class Evidence:
    """What is known of the units of one context.

    Args:
        context: holds the passages and the query.
        units: in reading order.
        run: gives the reader and, if asked for, the embedder.
        embedding: whether similarity by embedding counts too.
        bm25: whether BM25 counts too.

    Attributes:
        answerable: the probability that any passage answers, if it is known.
        signals: what it was made of: the best unit's share of attention, the prefix's, and the best cosine, as far as
            known.
    """

    def __init__(self, context: Context, units: Sequence[Unit], run: Run, *, embedding: bool, bm25: bool) -> None:
        self.context, self.units, self._run = context, units, run
        self._embedding, self._bm25 = embedding, bm25
        # Known once the query's own features are.
        self.answerable: float | None = None
        self.signals: tuple[float, float | None, float | None] | None = None
        self.owners = np.array([unit.passage for unit in units], dtype=np.int64)

    def scores(self) -> Numbers:
        """[n] log-odds of being evidence, up to a constant."""
        weights = np.array(FUSED_WEIGHTS if self._embedding or self._bm25 else ATTENTION_WEIGHTS)
        features = self.features()
        scores: Numbers = features @ weights
        scores = scores + self.links(scores) @ np.array(LINK_WEIGHTS)
        return self.walked(self.mixed(features, scores)) if self._embedding else scores

    def features(self) -> Numbers:
        """What is known of each unit by itself.

        Returns:
            [n, 4]: log attention of the unit, log attention of its passage (both times the number of tokens, so that 0
            is the average), z-scored similarity by embedding, z-scored BM25; 0 where not asked for.
        """
        query = self.context.query
        reading = self._run.read(query, self.context.passages)
        mass, sizes = unit_scores(reading.passages, self.owners, [unit.span for unit in self.units])
        mass = np.maximum(mass, 0.0)
        best_unit = float((mass * sizes).max(initial=0.0))
        mass = mass * max(1, int(sizes.sum()))
        count = len(self.context.passages)
        per_passage = np.bincount(self.owners, weights=mass * sizes, minlength=count) / np.maximum(
            np.bincount(self.owners, weights=sizes, minlength=count), 1
        )
        table = np.zeros((len(self.units), len(FUSED_WEIGHTS)))
        table[:, 0] = np.log(mass + _FLOOR)
        table[:, 1] = np.log(per_passage + _FLOOR)[self.owners]
        cosines = self._run.parts.embedder.similarity(query, self._titled) if self._embedding else None
        if cosines is not None:
            table[:, 2] = _standard(cosines)
        best_cosine = None if cosines is None else float(cosines.max(initial=-1.0))
        self.signals = best_unit, reading.on_prefix, best_cosine
        if reading.abstention and reading.on_prefix is not None:
            self.answerable = reading.abstention.answerable(best_unit, reading.on_prefix, best_cosine)
        if self._bm25:
            table[:, 3] = _standard(bm25_scores(query, self._titled))
        return table

    def links(self, scores: Numbers) -> Numbers:
        """[n, 2] what the titles that units name say of each unit, given its score; see `link_features`."""
        return link_features(self._title_links, self.owners, scores)

    def walked(self, scores: Numbers) -> Numbers:
        """[n] log-probabilities after a walk along the rare names that passages share; see `ranking.walks`.

        Attention alone is too unsure for it: `fast` kept less evidence of one and two hops with it (nq20_hard .96 for
        .99 at 30%), and more of three and four.

        Args:
            scores: [n] log-probabilities.
        """
        passages = self.context.passages
        links = name_links(
            self.context.query, [p.title for p in passages], [p.source for p in passages], self._texts, self.owners
        )
        return walked(links, self.owners, scores)

    def mixed(self, features: Numbers, scores: Numbers) -> Numbers:
        """[n] log-probabilities: scores mixed with those of resemblance; what is likely by any of them is likely.

        A passage's embedding is the mean of its units', by their lengths: it needs no further pass of the embedder.

        Args:
            features: what `features` gives.
            scores: [n] log-odds, up to a constant.
        """
        embedder = self._run.parts.embedder
        vectors, asked = embedder.embed(self._titled), embedder.embed_query(self.context.query)
        lengths = np.array([len(unit.span) for unit in self.units])[:, None]
        alike = np.zeros(len(scores))
        for own in self._places.values():
            mean = (vectors[own] * lengths[own]).sum(0)
            alike[own] = mean @ asked / max(float(np.linalg.norm(mean)), 1e-9)
        attended = _ATTENDED * features[:, 0]
        result: Numbers = np.logaddexp.reduce(
            [
                np.log(1 - _MIXED - _MIXED_SENTENCE) + _log_probabilities(scores),
                np.log(_MIXED) + _log_probabilities(_ALIKE * _standard(alike) + attended),
                np.log(_MIXED_SENTENCE) + _log_probabilities(_ALIKE_SENTENCE * features[:, 2] + attended),
            ]
        )
        return result

    @cached_property
    def _places(self) -> dict[int, list[int]]:
        return by_passage(self.units)

    @cached_property
    def _titled(self) -> list[str]:
        return titled_texts(self.context, self.units)

    @cached_property
    def _texts(self) -> list[str]:
        return [text_of(self.context, unit) for unit in self.units]

    @cached_property
    def _title_links(self) -> NDArray[np.int64]:
        return title_links([p.title for p in self.context.passages], self._texts, self.owners)


def _log_probabilities(scores: Numbers) -> Numbers:
    shifted = scores - scores.max()
    result: Numbers = shifted - np.log(np.exp(shifted).sum())
    return result


def _standard(values: Numbers) -> Numbers:
    """Z-scores; all 0 where the values do not differ."""
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros_like(values)
