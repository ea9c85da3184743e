"""Baselines from frameworks, each at the setting that comes closest to the budget: LangChain's and LlamaIndex's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctxshaper.data import Context, Passage, Span, Written
from ctxshaper.errors import MissingDependencyError
from ctxshaper.models.embedder import Embedder
from ctxshaper.pipelines.budget import FitBudget
from ctxshaper.stages import Run, Stage


@dataclass(frozen=True, kw_only=True)
class LangChainEmbeddingsFilter(Stage):
    """LangChain's `EmbeddingsFilter` (langchain-classic): passages by their similarity to the query, nearest first.

    Its k is the budget: the last passage that begins within it is cut at a sentence, so that tokens are equal.

    Attributes:
        reorder: then LangChain's `LongContextReorder` (langchain-community): the best to both ends (arXiv 2307.03172).
    """

    reorder: bool = False

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        try:
            from langchain_classic.retrievers.document_compressors import EmbeddingsFilter
            from langchain_community.document_transformers import LongContextReorder
            from langchain_core.documents import Document
        except ImportError as error:
            raise MissingDependencyError(
                "LangChain's filters need pip install langchain-classic langchain-community"
            ) from error
        if not context.passages:
            return context
        documents = [
            Document(page_content=f"{p.title}\n{p.text}" if p.title else p.text, metadata={"index": index})
            for index, p in enumerate(context.passages)
        ]
        filtering = EmbeddingsFilter(embeddings=_langchain_embeddings(run.parts.embedder), k=len(documents))
        ranked = filtering.compress_documents(documents, context.query)
        shaped = FitBudget().shape(context.with_passages([context.passages[d.metadata["index"]] for d in ranked]), run)
        if not self.reorder:
            return shaped
        left = [Document(page_content="", metadata={"index": index}) for index in range(len(shaped.passages))]
        order = LongContextReorder().transform_documents(left)
        return shaped.with_passages([shaped.passages[d.metadata["index"]] for d in order])


@dataclass(frozen=True, kw_only=True)
class LlamaIndexSentenceOptimizer(Stage):
    """LlamaIndex's `SentenceEmbeddingOptimizer`: sentences whose similarity exceeds a threshold, with the lowest one.

    Neighbours of a sentence are left out: they are added as often as they are met, and double the text.
    """

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        try:
            from llama_index.core.postprocessor import SentenceEmbeddingOptimizer
            from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
        except ImportError as error:
            raise MissingDependencyError("LlamaIndex's optimizer needs pip install llama-index-core") from error
        embedding = _llama_index_embedding(run.parts.embedder)

        def shaped(threshold: float) -> Context:
            optimizer = SentenceEmbeddingOptimizer(
                embed_model=embedding, threshold_cutoff=threshold, context_before=0, context_after=0
            )
            kept = []
            for passage in context.passages:
                node = NodeWithScore(node=TextNode(text=passage.text))
                try:
                    optimizer.postprocess_nodes([node], query_bundle=QueryBundle(context.query))
                except ValueError:
                    # It refuses to return a node without sentences.
                    continue
                text = node.node.get_content()
                kept.append(passage.rewrite([Written(text, tuple(_whole_sentences(passage, text)))] if text else []))
            return context.with_passages(kept)

        # Similarities lie in [-1, 1], hardly ever below 0.
        best, run.log.notes["threshold"] = _largest(shaped, [float(t) for t in np.linspace(1, 0, 1025)], context.limit)
        return best


def _whole_sentences(passage: Passage, text: str) -> list[Span]:
    """Where the sentences that the optimizer kept, in the order of their similarity, stand in the source."""
    from llama_index.core.utils import globals_helper

    split: Callable[[str], list[str]] = globals_helper.punkt_tokenizer.tokenize
    spans, at = [], 0
    for sentence in split(passage.text):
        at = passage.source.index(sentence, at)
        if sentence in text:
            spans.append(Span(at, at + len(sentence)))
        at += len(sentence)
    return spans


def _largest(shape: Callable[[Any], Context], settings: Sequence[Any], limit: int | None) -> tuple[Context, Any]:
    """The last of these settings, which keep more and more, whose text fits; the first where none does."""
    low, high = 0, len(settings)
    best = shape(settings[low])
    while high - low > 1:
        middle = (low + high) // 2
        tried = shape(settings[middle])
        if limit is None or tried.tokens <= limit:
            low, best = middle, tried
        else:
            high = middle
    return best, settings[low]


def _langchain_embeddings(embedder: Embedder) -> Any:
    from langchain_core.embeddings import Embeddings

    class Ours(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            rows: list[list[float]] = embedder.embed(texts).tolist()
            return rows

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    return Ours()


def _llama_index_embedding(embedder: Embedder) -> Any:
    from llama_index.core.base.embeddings.base import BaseEmbedding

    class Ours(BaseEmbedding):  # type: ignore[misc]  # the framework ships no types
        def _get_text_embedding(self, text: str) -> list[float]:
            return self._get_text_embeddings([text])[0]

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            rows: list[list[float]] = embedder.embed(texts).tolist()
            return rows

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    return Ours()
