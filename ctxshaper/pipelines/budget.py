"""The last word on a hard budget: whatever the stages did, the rendered text does not exceed it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ctxshaper.data import Context
from ctxshaper.stages.base import Stage
from ctxshaper.stages.run import Run
from ctxshaper.stages.trimming import select_or_trim
from ctxshaper.stages.units import Unit, units_of


@dataclass(frozen=True, kw_only=True)
class FitBudget(Stage):
    """Drops from the end, whole sentences, until the rendered text fits. Does nothing where it fits already.

    Where not even the first sentence fits, its beginning is kept.
    """

    span_kind = "CHAIN"

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        if context.limit is None or context.tokens <= context.limit:
            return context
        units = units_of(context, "sentence")

        def first(parts: Sequence[Unit]) -> list[float]:
            return [-float(place) for place in range(len(parts))]

        return select_or_trim(context, units, first(units), run.log, context.limit, first)
