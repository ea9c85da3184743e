"""Whom the conformance test examines: this project's connectors and the frameworks' own compressors."""

import warnings

from corpus import EMBEDDER, MiniLM, MiniLMNodes
from langchain_classic.retrievers.document_compressors import (
    CrossEncoderReranker,
    EmbeddingsFilter,
    LLMChainExtractor,
    LLMChainFilter,
)
from langchain_classic.retrievers.document_compressors.cross_encoder import BaseCrossEncoder
from langchain_core.language_models import FakeListChatModel
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.postprocessor import (
    LLMRerank,
    LongContextReorder,
    SentenceEmbeddingOptimizer,
    SentenceTransformerRerank,
    SimilarityPostprocessor,
)

from ctxshaper.connectors import langchain
from ctxshaper.connectors.conformance import Check, check_compressor, check_postprocessor
from ctxshaper.connectors.llama_index import ContextShaperPostprocessor
from ctxshaper.models.finding import resolve_embedder


class Cosine(BaseCrossEncoder):
    """Scores pairs as a cross-encoder does; what is examined is the framework's code around it."""

    def score(self, text_pairs):
        return [float(EMBEDDER.similarity(query, [text])[0]) for query, text in text_pairs]


class Ranker(CustomLLM):
    """Answers what LLMRerank asks for."""

    @property
    def metadata(self):
        return LLMMetadata()

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text="Doc: 2, Relevance: 5\nDoc: 1, Relevance: 9")

    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError


def compressors(pipeline):
    """LangChain's and ours, by name; the community class is deprecated and says so at import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.document_transformers import LongContextReorder as CommunityReorder
    embeddings = MiniLM()
    return {
        "**ContextShaper**": langchain.ContextShaper(pipeline=pipeline),
        "**LLMLinguaCompressor (drop-in)**": langchain.LLMLinguaCompressor(pipeline=pipeline, target_token=40),
        "**LongContextReorder (drop-in)**": langchain.LongContextReorder(),
        "EmbeddingsFilter": EmbeddingsFilter(embeddings=embeddings, k=2),
        "CrossEncoderReranker": CrossEncoderReranker(model=Cosine(), top_n=2),
        "LLMChainExtractor": LLMChainExtractor.from_llm(
            FakeListChatModel(responses=["It was designed by Ada Moreau."])
        ),
        "LLMChainFilter": LLMChainFilter.from_llm(FakeListChatModel(responses=["YES"])),
        "LongContextReorder (community)": CommunityReorder(),
    }


def postprocessors(pipeline):
    """LlamaIndex's and ours, by name."""
    return {
        "**ContextShaperPostprocessor**": ContextShaperPostprocessor(pipeline=pipeline),
        "SimilarityPostprocessor": SimilarityPostprocessor(similarity_cutoff=0.7),
        "LongContextReorder": LongContextReorder(),
        "LLMRerank": LLMRerank(llm=Ranker(), top_n=2),
        "SentenceEmbeddingOptimizer": SentenceEmbeddingOptimizer(
            embed_model=MiniLMNodes(), percentile_cutoff=0.5, tokenizer_fn=lambda text: text.split(". ")
        ),
        # MiniLM with a random head: which scores it gives does not matter here.
        "SentenceTransformerRerank": SentenceTransformerRerank(
            model=resolve_embedder().location, top_n=2, device="cpu", trust_remote_code=False
        ),
    }


def examine(pipeline) -> dict[str, dict[str, list[Check]]]:
    """All checks, by framework and name."""
    return {
        "LangChain": {name: check_compressor(subject) for name, subject in compressors(pipeline).items()},
        "LlamaIndex": {name: check_postprocessor(subject) for name, subject in postprocessors(pipeline).items()},
    }


def table(found: dict[str, list[Check]]) -> str:
    """As a table of Markdown."""
    names = [check.name for check in next(iter(found.values()))]
    rows = [["", *names], ["---"] * (len(names) + 1)]
    rows += [[name, *("yes" if check.passed else "**no**" for check in checks)] for name, checks in found.items()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
