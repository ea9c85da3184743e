"""Baselines that choose whole sentences under the budget: BM25, MiniLM, the first ones, random ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ctxshaper.data import Context
from ctxshaper.ranking.lexical import bm25
from ctxshaper.stages import Run, ScoringStage, Unit
from ctxshaper.stages.units import titled_texts


@dataclass(frozen=True, kw_only=True)
class BM25Sentences(ScoringStage):
    """By BM25 (Robertson and Zaragoza 2009), a sentence with its passage's title in front."""

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:  # noqa: ARG002
        """See the base."""
        return list(bm25(context.query, titled_texts(context, units)))


@dataclass(frozen=True, kw_only=True)
class EmbeddingSentences(ScoringStage):
    """By cosine similarity of embeddings (Sentence-BERT, arXiv 1908.10084), a sentence with its title in front."""

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        return list(run.parts.embedder.similarity(context.query, titled_texts(context, units)))


@dataclass(frozen=True, kw_only=True)
class FirstSentences(ScoringStage):
    """The first k: what fits when the retriever's list is cut off."""

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:  # noqa: ARG002
        """See the base."""
        return [-float(place) for place in range(len(units))]


@dataclass(frozen=True, kw_only=True)
class RandomSentences(ScoringStage):
    """Drawn at random, always alike for the same question."""

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:  # noqa: ARG002
        """See the base."""
        draw = random.Random(context.query)  # noqa: S311  # not secrets
        return [draw.random() for _ in units]
