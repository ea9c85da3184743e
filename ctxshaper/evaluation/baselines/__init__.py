"""Other tools as stages, so that they run in the same harness: the same budget, the same rendering, the same count."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.baselines.exit_yes import ExitSentences
from ctxshaper.evaluation.baselines.frameworks import LangChainEmbeddingsFilter, LlamaIndexSentenceOptimizer
from ctxshaper.evaluation.baselines.icr import InContextReranking
from ctxshaper.evaluation.baselines.lingua import LLMLingua, interpreter
from ctxshaper.evaluation.baselines.qrhead import QRHeads
from ctxshaper.evaluation.baselines.recomp import RecompSentences
from ctxshaper.evaluation.baselines.sentences import BM25Sentences, EmbeddingSentences, FirstSentences, RandomSentences
from ctxshaper.evaluation.baselines.sentinel import SentinelProbe
from ctxshaper.evaluation.baselines.trimwise import Trimwise
from ctxshaper.stages import GemFilter, Stage

BASELINES: dict[str, Callable[[], Stage]] = {
    "bm25": BM25Sentences,
    "minilm": EmbeddingSentences,
    "recomp": RecompSentences,
    "gemfilter": lambda: GemFilter(unit="sentence"),
    "icr": InContextReranking,
    "qrhead": QRHeads,
    "sentinel": SentinelProbe,
    "exit": ExitSentences,
    "langchain-filter": LangChainEmbeddingsFilter,
    "langchain-reorder": lambda: LangChainEmbeddingsFilter(reorder=True),
    "llama-index": LlamaIndexSentenceOptimizer,
    "trimwise": Trimwise,
    "llmlingua": LLMLingua,
    "longllmlingua": lambda: LLMLingua(long=True),
    "first-k": FirstSentences,
    "random": RandomSentences,
}
_PACKAGES = {
    "bm25": ("bm25s",),
    "minilm": ("sentence_transformers",),
    "recomp": ("sentence_transformers",),
    "trimwise": ("trimwise", "sentence_transformers"),
    "langchain-filter": ("langchain_classic", "langchain_community", "sentence_transformers"),
    "langchain-reorder": ("langchain_classic", "langchain_community", "sentence_transformers"),
    "llama-index": ("llama_index", "sentence_transformers"),
}


# They ask a whole language model about every question, or every sentence: seconds to a minute a question on a CPU.
SLOW = ("icr", "qrhead", "sentinel", "exit", "llmlingua", "longllmlingua")


def baseline(name: str) -> Stage:
    """The baseline of that name, as a stage.

    Raises:
        InvalidInputError: there is none of that name.
    """
    if name not in BASELINES:
        raise InvalidInputError(f"there is no baseline {name!r}; there are {', '.join(BASELINES)}")
    return BASELINES[name]()


def installed_baselines() -> list[str]:
    """The baselines whose packages, or environment, are there."""
    there = interpreter() is not None
    return [
        name
        for name in BASELINES
        if all(find_spec(package) for package in _PACKAGES.get(name, ())) and (there or "lingua" not in name)
    ]
