"""Measuring: data sets, metrics, baselines, comparisons and their reports. Importing it loads nothing of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctxshaper.evaluation.comparison import Comparison
    from ctxshaper.evaluation.loaders import load_questions
    from ctxshaper.evaluation.questions import Question
    from ctxshaper.evaluation.report import to_html
    from ctxshaper.evaluation.results import earlier_results
    from ctxshaper.evaluation.summary import Summary, summarize

# Reading questions needs neither numpy nor torch, comparing needs both.
_LAZY = {
    "Comparison": "comparison",
    "Question": "questions",
    "Summary": "summary",
    "earlier_results": "results",
    "load_questions": "loaders",
    "summarize": "summary",
    "to_html": "report",
}

__all__ = ["Comparison", "Question", "Summary", "earlier_results", "load_questions", "summarize", "to_html"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ctxshaper.evaluation' has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
