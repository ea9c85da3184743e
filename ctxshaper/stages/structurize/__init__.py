"""Structurize: headings over what sentences say together."""

from ctxshaper.stages.structurize.stage import Structurize

__all__ = ["Structurize"]
