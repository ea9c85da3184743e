"""LangChain: a document compressor that is a Runnable too, a retriever, agent middleware, and drop-ins."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctxshaper.connectors.langchain.compressor import ContextShaper, ShapingRetriever, map_citation

if TYPE_CHECKING:
    from ctxshaper.connectors.langchain.agent import ShapeToolResults
    from ctxshaper.connectors.langchain.dropins import LLMLinguaCompressor, LongContextReorder

__all__ = [
    "ContextShaper",
    "LLMLinguaCompressor",
    "LongContextReorder",
    "ShapeToolResults",
    "ShapingRetriever",
    "map_citation",
]

_ELSEWHERE = {
    "LLMLinguaCompressor": "ctxshaper.connectors.langchain.dropins",
    "LongContextReorder": "ctxshaper.connectors.langchain.dropins",
    "ShapeToolResults": "ctxshaper.connectors.langchain.agent",  # needs langchain, which retrieval alone does not
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ELSEWHERE[name]), name)
