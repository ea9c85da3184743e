"""Operations on passages' keys: for each a plain torch reference, a Triton kernel and one dispatcher.

Importing this package imports torch and never triton; kernels are imported when an operation is dispatched to them.
"""

from ctxshaper.kernels.dispatch import Backend
from ctxshaper.kernels.gem_scores import gem_key_scores, gem_scores
from ctxshaper.kernels.graph import GraphedCall
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.kernels.key_scores import key_lse, key_mass, key_scores, merge_lse
from ctxshaper.kernels.passage_attention import passage_attention

__all__ = [
    "Backend",
    "GraphedCall",
    "KeyRanges",
    "gem_key_scores",
    "gem_scores",
    "key_lse",
    "key_mass",
    "key_scores",
    "merge_lse",
    "passage_attention",
]
