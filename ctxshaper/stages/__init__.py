"""Stages: one method of the literature, or of this project, per file."""

from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.evidence_filter import EvidenceFilter
from ctxshaper.stages.gem_filter import GemFilter

# What recipes can name, and what the tests cross with everything.
STAGES: dict[str, type[Stage]] = {stage.__name__: stage for stage in (EvidenceFilter, GemFilter)}

__all__ = ["STAGES", "EvidenceFilter", "GemFilter", "Log", "Stage"]
