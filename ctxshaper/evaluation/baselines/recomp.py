"""RECOMP's extractive compressor (arXiv 2310.04408): sentences by a dual encoder's similarity to the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxshaper.data import Context
from ctxshaper.stages import Run, ScoringStage, Unit
from ctxshaper.stages.units import text_of


@dataclass(frozen=True, kw_only=True)
class RecompSentences(ScoringStage):
    """The sentences nearest to the question (section 3.1), their titles left out.

    RECOMP trains its encoder to put first what makes a generator answer; its weights are not to be had here, so this is
    its rule with an encoder that was not trained for it.
    """

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        texts = [text_of(context, unit).strip() for unit in units]
        return list(run.parts.embedder.similarity(context.query, texts))
