"""ctxshaper: shapes what a generator reads, between retrieval and generation.

Importing this package imports neither torch nor transformers: what needs them is loaded when it is first named.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctxshaper.data import Budget, Context, Passage, Rendering, Span
from ctxshaper.data.trace import Dropped, StageTrace, Trace
from ctxshaper.errors import (
    CtxshaperError,
    GeneratorError,
    InvalidInputError,
    MissingDependencyError,
    ModelError,
    RecipeError,
    StageError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from ctxshaper.generators import (
        FakeGenerator,
        Generator,
        LangChainGenerator,
        LlamaIndexGenerator,
        LocalGenerator,
        OpenAIGenerator,
    )
    from ctxshaper.models.abstention import Abstention
    from ctxshaper.models.embedder import Embedder
    from ctxshaper.pipelines import Pipeline, Recipe
    from ctxshaper.reading.focal import FocalReader
    from ctxshaper.reading.profile import HeadProfile
    from ctxshaper.reading.reader import Reader
    from ctxshaper.reading.reading import Reading
    from ctxshaper.stages import S2A, AttentionRAG, AttnRank, DistractionFilter, EvidenceFilter, GemFilter
    from ctxshaper.stages.position_profile import PositionProfile

__version__ = "0.1.0"

_LAZY = {
    "Abstention": "ctxshaper.models.abstention",
    "AttentionRAG": "ctxshaper.stages",
    "AttnRank": "ctxshaper.stages",
    "DistractionFilter": "ctxshaper.stages",
    "Embedder": "ctxshaper.models.embedder",
    "EvidenceFilter": "ctxshaper.stages",
    "FakeGenerator": "ctxshaper.generators",
    "FocalReader": "ctxshaper.reading.focal",
    "GemFilter": "ctxshaper.stages",
    "Generator": "ctxshaper.generators",
    "HeadProfile": "ctxshaper.reading.profile",
    "LangChainGenerator": "ctxshaper.generators",
    "LlamaIndexGenerator": "ctxshaper.generators",
    "LocalGenerator": "ctxshaper.generators",
    "OpenAIGenerator": "ctxshaper.generators",
    "Pipeline": "ctxshaper.pipelines",
    "PositionProfile": "ctxshaper.stages.position_profile",
    "Reader": "ctxshaper.reading.reader",
    "Reading": "ctxshaper.reading.reading",
    "Recipe": "ctxshaper.pipelines",
    "S2A": "ctxshaper.stages",
}

__all__ = [
    "S2A",
    "Abstention",
    "AttentionRAG",
    "AttnRank",
    "Budget",
    "Context",
    "CtxshaperError",
    "DistractionFilter",
    "Dropped",
    "Embedder",
    "EvidenceFilter",
    "FakeGenerator",
    "FocalReader",
    "GemFilter",
    "Generator",
    "GeneratorError",
    "HeadProfile",
    "InvalidInputError",
    "LangChainGenerator",
    "LlamaIndexGenerator",
    "LocalGenerator",
    "MissingDependencyError",
    "ModelError",
    "OpenAIGenerator",
    "Passage",
    "Pipeline",
    "PositionProfile",
    "Reader",
    "Reading",
    "Recipe",
    "RecipeError",
    "Rendering",
    "Span",
    "StageError",
    "StageTrace",
    "Trace",
    "UnsupportedModelError",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ctxshaper' has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("torch", "transformers", "tokenizers", "numpy"):
            raise
        raise MissingDependencyError(f"{name} needs {error.name}; pip install 'ctxshaper[reader]'") from error


def __dir__() -> list[str]:
    return sorted(__all__)
