"""ctxshaper: shapes what a generator reads, between retrieval and generation.

Importing this package imports neither torch nor numpy: what needs them is loaded when it is first named. In the base
install every public name can be imported; what needs an extra says which one when it is used.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ctxshaper.data import (
    Budget,
    Context,
    Decision,
    Kept,
    Message,
    Passage,
    Rendering,
    SetAside,
    Span,
    StageTrace,
    Trace,
    Written,
)
from ctxshaper.errors import (
    CtxshaperError,
    DeadlineError,
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
    from ctxshaper.models.embedder import Embedder
    from ctxshaper.models.language_model import LanguageModel
    from ctxshaper.pipelines import Pipeline, Recipe
    from ctxshaper.reading.fake import FakeReader
    from ctxshaper.reading.profile import HeadProfile
    from ctxshaper.reading.reader import Reader
    from ctxshaper.reading.reading import Reading
    from ctxshaper.stages import (
        S2A,
        AttentionRAG,
        AttnRank,
        ContextualizeQuery,
        DistractionFilter,
        EvidenceFilter,
        GemFilter,
        InjectionScreen,
        Log,
        NoiseFilter,
        Parts,
        Run,
        S2AQuery,
        ScoringStage,
        Stage,
        Structurize,
        Unit,
        WritingStage,
    )
    from ctxshaper.stages.attnrank.profile import PositionProfile

__version__ = "0.2.0"

# An application that configures no logging gets none of ours on its standard error.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_LAZY = {
    "AttentionRAG": "ctxshaper.stages",
    "AttnRank": "ctxshaper.stages",
    "ContextualizeQuery": "ctxshaper.stages",
    "DistractionFilter": "ctxshaper.stages",
    "Embedder": "ctxshaper.models.embedder",
    "EvidenceFilter": "ctxshaper.stages",
    "FakeGenerator": "ctxshaper.generators",
    "FakeReader": "ctxshaper.reading.fake",
    "GemFilter": "ctxshaper.stages",
    "Generator": "ctxshaper.generators",
    "HeadProfile": "ctxshaper.reading.profile",
    "InjectionScreen": "ctxshaper.stages",
    "LangChainGenerator": "ctxshaper.generators",
    "LanguageModel": "ctxshaper.models.language_model",
    "LlamaIndexGenerator": "ctxshaper.generators",
    "LocalGenerator": "ctxshaper.generators",
    "Log": "ctxshaper.stages",
    "NoiseFilter": "ctxshaper.stages",
    "OpenAIGenerator": "ctxshaper.generators",
    "Parts": "ctxshaper.stages",
    "Pipeline": "ctxshaper.pipelines",
    "PositionProfile": "ctxshaper.stages.attnrank.profile",
    "Reader": "ctxshaper.reading.reader",
    "Reading": "ctxshaper.reading.reading",
    "Recipe": "ctxshaper.pipelines",
    "Run": "ctxshaper.stages",
    "S2A": "ctxshaper.stages",
    "S2AQuery": "ctxshaper.stages",
    "Structurize": "ctxshaper.stages",
    "ScoringStage": "ctxshaper.stages",
    "Stage": "ctxshaper.stages",
    "Unit": "ctxshaper.stages",
    "WritingStage": "ctxshaper.stages",
}

__all__ = [
    "S2A",
    "AttentionRAG",
    "AttnRank",
    "Budget",
    "Context",
    "ContextualizeQuery",
    "CtxshaperError",
    "DeadlineError",
    "Decision",
    "DistractionFilter",
    "Embedder",
    "EvidenceFilter",
    "FakeGenerator",
    "FakeReader",
    "GemFilter",
    "Generator",
    "GeneratorError",
    "HeadProfile",
    "InjectionScreen",
    "InvalidInputError",
    "Kept",
    "LangChainGenerator",
    "LanguageModel",
    "LlamaIndexGenerator",
    "LocalGenerator",
    "Log",
    "Message",
    "MissingDependencyError",
    "ModelError",
    "NoiseFilter",
    "OpenAIGenerator",
    "Parts",
    "Passage",
    "Pipeline",
    "PositionProfile",
    "Reader",
    "Reading",
    "Recipe",
    "RecipeError",
    "Rendering",
    "Run",
    "S2AQuery",
    "ScoringStage",
    "SetAside",
    "Span",
    "Stage",
    "StageError",
    "StageTrace",
    "Structurize",
    "Trace",
    "Unit",
    "UnsupportedModelError",
    "WritingStage",
    "Written",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ctxshaper' has no attribute {name!r}")
    try:
        return getattr(import_module(_LAZY[name]), name)
    except ImportError as error:
        return _stand_in(name, error)


def _stand_in(name: str, error: ImportError) -> type:
    """A class that can be imported and named where an extra is missing, and says so when it is used."""
    from ctxshaper.extras import missing_extra

    refusal = missing_extra(name, error)
    if refusal is error:
        raise error

    def refuse(*_: Any, **__: Any) -> Any:
        raise refusal

    return type(name, (), {"__new__": refuse, "__doc__": str(refusal)})


def __dir__() -> list[str]:
    return sorted(__all__)
