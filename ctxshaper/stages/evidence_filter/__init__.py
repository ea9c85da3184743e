"""EvidenceFilter: keeps the text that a reader's relevance heads attend to."""

from ctxshaper.stages.evidence_filter.stage import EvidenceFilter

__all__ = ["EvidenceFilter"]
