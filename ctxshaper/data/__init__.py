"""The data that flows: spans, passages, budgets, contexts and their traces. No model library is imported here."""

from ctxshaper.data.attention import Attention, Looked
from ctxshaper.data.budget import Budget
from ctxshaper.data.context import Context, SetAside, TokenCounter
from ctxshaper.data.marked import Marked
from ctxshaper.data.messages import Message, Role
from ctxshaper.data.passages import ELLIPSIS, Passage
from ctxshaper.data.pieces import Kept, Piece, Placed, Written
from ctxshaper.data.plain import Frozen, json_safe
from ctxshaper.data.rendering import Label, Part, Rendering
from ctxshaper.data.spans import Span, gaps, intersect, merge_spans
from ctxshaper.data.trace import Decision, StageTrace, Trace

__all__ = [
    "ELLIPSIS",
    "Attention",
    "Budget",
    "Context",
    "Decision",
    "Frozen",
    "Kept",
    "Label",
    "Looked",
    "Marked",
    "Message",
    "Part",
    "Passage",
    "Piece",
    "Placed",
    "Rendering",
    "Role",
    "SetAside",
    "Span",
    "StageTrace",
    "TokenCounter",
    "Trace",
    "Written",
    "gaps",
    "intersect",
    "json_safe",
    "merge_spans",
]
