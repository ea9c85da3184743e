"""The last word on a hard budget: whatever the stages did, the rendered text does not exceed it."""

from __future__ import annotations

from dataclasses import dataclass

from ctxshaper.data import Context
from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.selection import Candidate, select, units_of


@dataclass(frozen=True, kw_only=True)
class FitBudget(Stage):
    """Drops from the end, whole sentences, until the rendered text fits. Does nothing where it fits already."""

    def shape(self, context: Context, log: Log) -> Context:
        """Apply the rule of the class."""
        if context.limit is None or context.tokens <= context.limit:
            return context
        candidates = [
            Candidate(index, span, -float(index))
            for index, passage in enumerate(context.passages)
            for span in units_of(passage, "sentence")
        ]
        return select(context, candidates, log, context.limit)
