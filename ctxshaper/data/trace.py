"""What happened to a context: for each stage its time, its tokens, and what it decided about each unit of text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxshaper.data.plain import Frozen, json_safe
from ctxshaper.data.spans import Span
from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Decision:
    """What a stage decided about one unit of text.

    Attributes:
        passage: the passage's rank in the retriever's list, counted from 0.
        span: the unit, in the passage's source.
        kept: whether it stayed.
        reason: why.
        score: what decided, if a score did; higher is more relevant.
    """

    passage: int
    span: Span
    kept: bool
    reason: str
    score: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "passage": self.passage,
            "start": self.span.start,
            "end": self.span.end,
            "kept": self.kept,
            "reason": self.reason,
            "score": json_safe(self.score),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Decision:
        """The decision that `to_dict` described."""
        return cls(data["passage"], Span(data["start"], data["end"]), data["kept"], data["reason"], data["score"])


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One stage's run.

    Attributes:
        stage: its name.
        seconds: wall-clock time.
        tokens_in: the generator's tokens before.
        tokens_out: the generator's tokens after.
        decisions: one row for each unit that it judged, kept and dropped alike.
        notes: anything else that the stage reports; plain JSON data.
        error: what went wrong, where the stage was skipped because of it.
    """

    stage: str
    seconds: float
    tokens_in: int
    tokens_out: int
    decisions: tuple[Decision, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    error: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.notes, Frozen):
            object.__setattr__(self, "notes", Frozen(json_safe(self.notes), "a stage's notes"))

    @property
    def dropped(self) -> tuple[Decision, ...]:
        """The units that did not stay."""
        return tuple(decision for decision in self.decisions if not decision.kept)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "stage": self.stage,
            "seconds": self.seconds,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "decisions": [decision.to_dict() for decision in self.decisions],
            "notes": dict(self.notes),
            "error": self.error,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageTrace:
        """The run that `to_dict` described."""
        return cls(**{**data, "decisions": tuple(map(Decision.from_dict, data["decisions"]))})


@dataclass(frozen=True, slots=True)
class Trace:
    """The runs of all stages, in order."""

    stages: tuple[StageTrace, ...] = ()

    @property
    def seconds(self) -> float:
        """Time of all stages together."""
        return sum(stage.seconds for stage in self.stages)

    def add(self, stage: StageTrace) -> Trace:
        """The trace with one more run."""
        return Trace((*self.stages, stage))

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {"seconds": self.seconds, "stages": [stage.to_dict() for stage in self.stages]}

    def to_json(self, indent: int | None = None) -> str:
        """As JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trace:
        """The trace that `to_dict` described.

        Raises:
            InvalidInputError: the data is not such a trace.
        """
        try:
            return cls(tuple(map(StageTrace.from_dict, data["stages"])))
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"this is not a trace written by Trace.to_dict: {error!r:.200}") from error
