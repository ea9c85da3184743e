"""System 2 Attention: a language model rewrites its own context before it answers."""

from ctxshaper.stages.s2a.query import S2AQuery
from ctxshaper.stages.s2a.stage import S2A, ShapedQuery

__all__ = ["S2A", "S2AQuery", "ShapedQuery"]
