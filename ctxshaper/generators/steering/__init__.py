"""Steering of local generators: one method per file, each a `Steering`. Importing it imports no torch."""

from ctxshaper.generators.steering.act import ACT
from ctxshaper.generators.steering.attention_buckets import AttentionBuckets
from ctxshaper.generators.steering.base import HeadSteering, Seen, Steering
from ctxshaper.generators.steering.focus_directions import FocusDirections
from ctxshaper.generators.steering.pasta import PASTA
from ctxshaper.generators.steering.profile import ContextualHead, SteeringProfile
from ctxshaper.generators.steering.zero_tuning import ZeroTuning

__all__ = [
    "ACT",
    "PASTA",
    "AttentionBuckets",
    "ContextualHead",
    "FocusDirections",
    "HeadSteering",
    "Seen",
    "Steering",
    "SteeringProfile",
    "ZeroTuning",
]
