"""The data that flows: spans, passages, budgets, contexts and their traces. No model library is imported here."""

from ctxshaper.data.context import (
    ELLIPSIS,
    Budget,
    Context,
    Passage,
    Rendering,
    Span,
    TokenCounter,
    join_kept,
    json_safe,
    merge_spans,
    shown,
)
from ctxshaper.data.trace import Dropped, StageTrace, Trace

__all__ = [
    "ELLIPSIS",
    "Budget",
    "Context",
    "Dropped",
    "Passage",
    "Rendering",
    "Span",
    "StageTrace",
    "TokenCounter",
    "Trace",
    "join_kept",
    "json_safe",
    "merge_spans",
    "shown",
]
