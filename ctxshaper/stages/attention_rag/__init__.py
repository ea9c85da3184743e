"""AttentionRAG: keeps the sentences that the answer's next word looks at."""

from ctxshaper.stages.attention_rag.stage import AttentionRAG

__all__ = ["AttentionRAG"]
