"""Stages: one method of the literature, or of this project, per file or folder. Importing it loads no model."""

from importlib.metadata import EntryPoint, entry_points

from ctxshaper.errors import RecipeError
from ctxshaper.stages.attention_rag import AttentionRAG
from ctxshaper.stages.attnrank import AttnRank
from ctxshaper.stages.base import ScoringStage, Stage, WritingStage
from ctxshaper.stages.contextualize_query import ContextualizeQuery
from ctxshaper.stages.distraction_filter import DistractionFilter
from ctxshaper.stages.evidence_filter import EvidenceFilter
from ctxshaper.stages.gem_filter import GemFilter
from ctxshaper.stages.injection_screen import InjectionScreen
from ctxshaper.stages.noise_filter import NoiseFilter
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Log, Run
from ctxshaper.stages.s2a import S2A, S2AQuery, ShapedQuery
from ctxshaper.stages.structurize import Structurize
from ctxshaper.stages.units import Unit

# What recipes can name beside the stages of other packages, and what the tests cross with everything.
STAGES: dict[str, type[Stage]] = {
    stage.__name__: stage
    for stage in (
        AttentionRAG,
        AttnRank,
        ContextualizeQuery,
        DistractionFilter,
        EvidenceFilter,
        GemFilter,
        InjectionScreen,
        NoiseFilter,
        S2A,
        S2AQuery,
        Structurize,
    )
}

__all__ = [
    "S2A",
    "STAGES",
    "AttentionRAG",
    "AttnRank",
    "ContextualizeQuery",
    "DistractionFilter",
    "EvidenceFilter",
    "GemFilter",
    "InjectionScreen",
    "Log",
    "NoiseFilter",
    "Parts",
    "Run",
    "S2AQuery",
    "ScoringStage",
    "ShapedQuery",
    "Stage",
    "Structurize",
    "Unit",
    "WritingStage",
    "stage_named",
    "stage_names",
]


def _foreign() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="ctxshaper.stages") if entry.name not in STAGES}


def stage_names() -> list[str]:
    """The stages that recipes can name: this project's, and those that installed packages register.

    A package registers a stage by an entry point of the group `ctxshaper.stages`: `Name = "package.module:Class"`.
    """
    return sorted([*STAGES, *_foreign()])


def stage_named(name: str) -> type[Stage]:
    """The class of a stage that `stage_names` lists; that of another package is imported now.

    Raises:
        RecipeError: there is none of that name, or what a package registers is no stage.
    """
    if name in STAGES:
        return STAGES[name]
    foreign = _foreign()
    if name not in foreign:
        raise RecipeError(f"there is no stage {name!r}; there are {', '.join(stage_names())}")
    try:
        found = foreign[name].load()
    except Exception as error:
        raise RecipeError(f"the stage {name!r} of {foreign[name].value} cannot be imported: {error!r}") from error
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise RecipeError(f"{foreign[name].value}, registered as stage {name!r}, is no ctxshaper Stage")
    return found
