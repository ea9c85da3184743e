"""EvidenceFilter: keeps the text that a reader's relevance heads attend to. This project's own method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import exp

from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.base import ScoringStage
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Log, Run
from ctxshaper.stages.units import Unit, titled_texts, units_of


@dataclass(frozen=True, kw_only=True)
class EvidenceFilter(ScoringStage):
    """Keeps the units of text that are most likely evidence for an answer, within the budget.

    A unit's score is the logarithm of the attention that its tokens receive from the question's tokens at the reader's
    relevance heads (mean per token: no length bias), plus the same of its whole passage; where asked for, plus
    similarity by embedding and BM25 with the passage's title in front. Then passages lend to each other: a likely unit
    that names another passage's title makes that passage more likely, and a unit that names a likely passage is more
    likely itself (a step that multi-hop questions take; the hyperlink hops of arXiv 1911.10470, without a trained
    retriever). Passages are read independently and remembered (Block-Attention, arXiv 2409.15355, untuned), so the
    scores do not depend on their order; which heads count is the head profile's matter (QRHead, arXiv 2506.09944).
    With `embedding`, the score is mixed with simpler ones, by which a passage or a sentence that resembles the question
    is the evidence: a product of signals is sure of itself where they err together, a mixture is not. A part of the
    probability then walks on to the passages that share a rare name with a likely unit, which questions of three and
    four hops need (personalised PageRank: HippoRAG, arXiv 2405.14831). The order of passages and units is kept.

    With an adaptive budget, units are kept until they hold `confidence` of the probability of being evidence; and none
    where the probability that any passage answers at all (`Context.answerable`) lies below `abstain`.

    Attributes:
        embedding: whether similarity by embedding counts too.
        bm25: whether BM25 counts too.
        confidence: the share of the probability that an adaptive budget keeps, in (0, 1].
        abstain: an adaptive budget keeps nothing, and says so, where the passages answer with less probability than
            this; 0 never abstains, as for queries that are no questions ("Summarise this").
    """

    embedding: bool = False
    bm25: bool = False
    confidence: float = 0.9
    abstain: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.confidence <= 1:
            raise InvalidInputError(f"confidence must lie above 0 and at most 1, but got {self.confidence}")
        if not 0 <= self.abstain <= 1:
            raise InvalidInputError(f"abstain must lie between 0 and 1, but got {self.abstain}")

    def remember(self, passages: Sequence[Passage], parts: Parts) -> None:
        """Embed the units of the passages, if embeddings count."""
        if self.embedding:
            context = Context("", tuple(passages), len)
            parts.embedder.embed(titled_texts(context, units_of(context, self.unit)))

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """Log-odds of being evidence, up to a constant."""
        from ctxshaper.stages.evidence_filter.scores import Evidence

        evidence = Evidence(context, units, run, embedding=self.embedding, bm25=self.bm25)
        scores: list[float] = evidence.scores().tolist()
        if evidence.answerable is not None:
            run.log.notes["answerable"] = evidence.answerable
        return scores

    def shape(self, context: Context, run: Run) -> Context:
        """Keep the evidence, and say how likely there is any."""
        shaped = super().shape(context, run)
        return replace(shaped, answerable=run.log.notes.get("answerable", context.answerable))

    def likely(self, units: Sequence[Unit], scores: Sequence[float], log: Log) -> Sequence[int]:  # noqa: ARG002
        """The best units that hold `confidence` of the probability; none where no passage is likely to answer."""
        known = log.notes.get("answerable")
        if known is not None and known < self.abstain:
            log.warnings.append(f"no passage is likely to answer (probability {known:.2f}, abstain {self.abstain})")
            return []
        ranked = sorted(range(len(scores)), key=lambda place: -scores[place])
        odds = [exp(scores[place] - scores[ranked[0]]) for place in ranked]
        reached = list(accumulate(odds))
        enough = next((n for n, held in enumerate(reached, 1) if held >= self.confidence * reached[-1]), len(ranked))
        log.notes["confidence"] = reached[enough - 1] / reached[-1]
        return ranked[:enough]
