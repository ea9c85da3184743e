"""Peers that choose whole sentences under the budget: BM25, MiniLM, the first ones, random ones."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ctxshaper.data import Context
from ctxshaper.models.embedder import Embedder
from ctxshaper.ranking.lexical import bm25
from ctxshaper.stages import Log, Stage
from ctxshaper.stages.selection import Candidate, select, units_of


@dataclass(frozen=True, kw_only=True)
class Sentences(Stage):
    """Keeps the sentences that score highest; a sentence is scored with its passage's title in front."""

    def shape(self, context: Context, log: Log) -> Context:
        """Apply the rule of the class."""
        flat = [(index, span) for index, p in enumerate(context.passages) for span in units_of(p, "sentence")]
        texts = []
        for index, span in flat:
            passage = context.passages[index]
            text = passage.source[span.start : span.end].strip()
            texts.append(f"{passage.title}: {text}" if passage.title else text)
        scores = self.scores(context.query, texts)
        candidates = [Candidate(index, span, float(s)) for (index, span), s in zip(flat, scores, strict=True)]
        return select(context, candidates, log, context.limit)

    @abstractmethod
    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """A score per text, higher is better."""


@dataclass(frozen=True, kw_only=True)
class BM25Sentences(Sentences):
    """By BM25 (Robertson and Zaragoza 2009)."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See the base."""
        return list(bm25(query, texts))


@dataclass(frozen=True, kw_only=True)
class EmbeddingSentences(Sentences):
    """By cosine similarity of embeddings (Sentence-BERT, arXiv 1908.10084).

    Attributes:
        embedder: embeds; a pipeline's own if None.
    """

    needs: ClassVar[tuple[str, ...]] = ("embedder",)

    embedder: Embedder | None = None

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See the base."""
        return list((self.embedder or Embedder()).similarity(query, texts))


@dataclass(frozen=True, kw_only=True)
class FirstSentences(Sentences):
    """The first k: what fits when the retriever's list is cut off."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:  # noqa: ARG002  # the base's signature
        """See the base."""
        return [-float(place) for place in range(len(texts))]


@dataclass(frozen=True, kw_only=True)
class RandomSentences(Sentences):
    """Drawn at random, always alike for the same question."""

    def scores(self, query: str, texts: Sequence[str]) -> Sequence[float]:
        """See the base."""
        draw = random.Random(query)  # noqa: S311  # not secrets
        return [draw.random() for _ in texts]
