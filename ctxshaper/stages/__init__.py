"""Stages: one method of the literature, or of this project, per file."""

from ctxshaper.stages.attnrank import AttnRank
from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.distraction import DistractionFilter
from ctxshaper.stages.evidence_filter import EvidenceFilter
from ctxshaper.stages.gem_filter import GemFilter

# What recipes can name, and what the tests cross with everything.
STAGES: dict[str, type[Stage]] = {
    stage.__name__: stage for stage in (AttnRank, DistractionFilter, EvidenceFilter, GemFilter)
}

__all__ = ["STAGES", "AttnRank", "DistractionFilter", "EvidenceFilter", "GemFilter", "Log", "Stage"]
