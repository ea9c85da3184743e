"""Stages: one method of the literature, or of this project, per file."""

from ctxshaper.stages.attention_rag import AttentionRAG
from ctxshaper.stages.attnrank import AttnRank
from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.distraction import DistractionFilter
from ctxshaper.stages.evidence_filter import EvidenceFilter
from ctxshaper.stages.gem_filter import GemFilter
from ctxshaper.stages.s2a import S2A, ShapedQuery

# What recipes can name, and what the tests cross with everything.
STAGES: dict[str, type[Stage]] = {
    stage.__name__: stage for stage in (AttentionRAG, AttnRank, DistractionFilter, EvidenceFilter, GemFilter, S2A)
}

__all__ = [
    "S2A",
    "STAGES",
    "AttentionRAG",
    "AttnRank",
    "DistractionFilter",
    "EvidenceFilter",
    "GemFilter",
    "Log",
    "ShapedQuery",
    "Stage",
]
