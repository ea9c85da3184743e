"""LlamaIndex: a node postprocessor, reading at ingestion, a memory for chats, an agent. Needs llama-index-core.

Each name is loaded when it is first asked for: retrieval does not pay for agents.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import MissingDependencyError
from ctxshaper.extras import install_line

if TYPE_CHECKING:
    from ctxshaper.connectors.llama_index.agent import ShapedFunctionAgent
    from ctxshaper.connectors.llama_index.ingestion import RememberNodes
    from ctxshaper.connectors.llama_index.memory import ShapedMemory
    from ctxshaper.connectors.llama_index.nodes import map_citation, to_nodes, to_passages
    from ctxshaper.connectors.llama_index.postprocessor import ContextShaperPostprocessor

if find_spec("llama_index") is None or find_spec("llama_index.core") is None:
    raise MissingDependencyError(
        f"ctxshaper.connectors.llama_index needs llama-index-core; {install_line('llama-index')}"
    )

__all__ = [
    "ContextShaperPostprocessor",
    "RememberNodes",
    "ShapedFunctionAgent",
    "ShapedMemory",
    "map_citation",
    "to_nodes",
    "to_passages",
]

_HOME = {
    "ContextShaperPostprocessor": "postprocessor",
    "RememberNodes": "ingestion",
    "ShapedFunctionAgent": "agent",
    "ShapedMemory": "memory",
    "map_citation": "nodes",
    "to_nodes": "nodes",
    "to_passages": "nodes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
