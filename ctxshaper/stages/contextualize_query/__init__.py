"""Contextualize the query: a follow-up question becomes one that stands by itself."""

from ctxshaper.stages.contextualize_query.stage import ContextualizeQuery

__all__ = ["ContextualizeQuery"]
