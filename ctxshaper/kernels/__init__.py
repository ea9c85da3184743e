"""Operations on passage memories: for each a plain torch reference, a Triton kernel and one dispatcher.

Importing this package imports torch and never triton; kernels are imported when an operation is dispatched to them.
"""

from ctxshaper.kernels.dispatch import Backend
from ctxshaper.kernels.gem_scores import gem_scores
from ctxshaper.kernels.graph import GraphedCall
from ctxshaper.kernels.page_write import page_write
from ctxshaper.kernels.passage_attention import passage_attention
from ctxshaper.kernels.query_attention import query_attention

__all__ = [
    "Backend",
    "GraphedCall",
    "gem_scores",
    "page_write",
    "passage_attention",
    "query_attention",
]
