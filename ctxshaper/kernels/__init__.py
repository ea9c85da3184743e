"""Operations on attention: per operation a plain torch reference, a Triton kernel and one dispatcher."""

from ctxshaper.kernels.gem_scores import gem_scores
from ctxshaper.kernels.passage_attention import passage_attention
from ctxshaper.kernels.query_attention import query_attention

__all__ = ["gem_scores", "passage_attention", "query_attention"]
