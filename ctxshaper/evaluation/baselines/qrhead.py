"""QRHead (arXiv 2506.09944): In-Context Re-ranking with the few heads that find what answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxshaper.data import Context, Passage
from ctxshaper.evaluation.baselines.fitted import fitted_for
from ctxshaper.evaluation.baselines.icr import ASK, LEAD
from ctxshaper.evaluation.baselines.whole_prompt import Documents, Numbers, Tail, calibrated, without_outliers
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.stages import Run, ScoringStage, Unit


@dataclass(frozen=True, kw_only=True)
class QRHeads(ScoringStage):
    """Sentences by the question's attention at 16 retrieval heads, in one causal prompt (section 3).

    A head's QR score is the attention that the question's tokens pay to the documents that answer, less that of "N/A".
    The 16 best of SmolLM2's 270 heads, as many as the paper takes, were found on made-up questions; the paper finds
    them on LongMemEval or Natural Questions. Sentences get the mean of their tokens, as in `InContextReranking`.
    """

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        model = run.parts.language_model
        heads = fitted_for(model).heads
        documents, found = by_head(model, context.query, context.passages)
        return list(documents.of_units(units, summed(documents, found, heads)))


def by_head(model: LanguageModel, query: str, passages: Sequence[Passage]) -> tuple[Documents, Numbers]:
    """The documents, and [L, H, T] what the question attends to more than "N/A" does."""
    return calibrated(model, passages, lambda question: Tail.of(model, ASK, question, "", "question"), query, LEAD)


def summed(documents: Documents, found: Numbers, heads: Sequence[tuple[int, int]]) -> Numbers:
    """[T] the sum over heads, without tokens that fall out of line."""
    total: Numbers = found[[layer for layer, _ in heads], [head for _, head in heads]].sum(0)
    return without_outliers(documents, total)
