"""DistractionFilter: passages that mislead, told apart from those that are merely irrelevant."""

from ctxshaper.stages.distraction_filter.stage import DistractionFilter

__all__ = ["DistractionFilter"]
