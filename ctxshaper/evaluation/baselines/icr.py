"""In-Context Re-ranking (arXiv 2410.02642): attention of all heads to a prompt of all passages, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxshaper.data import Context
from ctxshaper.evaluation.baselines.whole_prompt import Numbers, Tail, calibrated, without_outliers
from ctxshaper.stages import Run, ScoringStage, Unit

LEAD = "Here are some paragraphs:\n\n"
ASK = "Please find information that is relevant to the following question in the paragraphs above.\n\nQuestion: "


@dataclass(frozen=True, kw_only=True)
class InContextReranking(ScoringStage):
    """Sentences by the attention of the prompt's end, summed over all heads of all layers (section 3).

    One causal prompt holds the numbered passages, then the instruction with the question. What a question without
    content ("N/A") attends to is taken off, and tokens far below the others of their passage do not count. Where the
    paper sums a document's tokens, here a sentence gets their mean: sentences differ in length, and pay for it.
    Nothing is remembered: another question reads all passages anew. The model is the language model of the parts.
    """

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        model = run.parts.language_model

        def tail(question: str) -> Tail:
            return Tail.of(model, ASK, question, "", "all")

        documents, found = calibrated(model, context.passages, tail, context.query, LEAD)
        summed: Numbers = found.sum((0, 1))
        return list(documents.of_units(units, without_outliers(documents, summed)))
