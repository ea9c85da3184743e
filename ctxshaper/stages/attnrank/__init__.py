"""AttnRank: the best passage where the generator looks most."""

from ctxshaper.stages.attnrank.profile import PositionProfile
from ctxshaper.stages.attnrank.stage import AttnRank

__all__ = ["AttnRank", "PositionProfile"]
