"""LangChain: a compressor that is a Runnable too, a retriever, agent middleware, reading at ingestion, drop-ins.

Each name is loaded when it is first asked for: retrieval needs langchain-core alone, and only agents need langchain.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import MissingDependencyError
from ctxshaper.extras import install_line

if TYPE_CHECKING:
    from ctxshaper.connectors.langchain.agent import ShapeToolResults
    from ctxshaper.connectors.langchain.chat import ShapeChat
    from ctxshaper.connectors.langchain.compressor import ContextShaper
    from ctxshaper.connectors.langchain.documents import map_citation
    from ctxshaper.connectors.langchain.dropins import LLMLinguaCompressor, LongContextReorder
    from ctxshaper.connectors.langchain.ingestion import RememberDocuments
    from ctxshaper.connectors.langchain.retriever import ShapingRetriever

if find_spec("langchain_core") is None:
    raise MissingDependencyError(f"ctxshaper.connectors.langchain needs langchain-core; {install_line('langchain')}")

__all__ = [
    "ContextShaper",
    "LLMLinguaCompressor",
    "LongContextReorder",
    "RememberDocuments",
    "ShapeChat",
    "ShapeToolResults",
    "ShapingRetriever",
    "map_citation",
]

_HOME = {
    "ContextShaper": "compressor",
    "LLMLinguaCompressor": "dropins",
    "LongContextReorder": "dropins",
    "RememberDocuments": "ingestion",
    "ShapeChat": "chat",
    "ShapeToolResults": "agent",
    "ShapingRetriever": "retriever",
    "map_citation": "documents",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
