"""What happened to a context: for each stage its time, its tokens, what it dropped and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Dropped:
    """Text that a stage dropped.

    Attributes:
        passage: the passage's place in the retriever's list, counted from 0.
        id: the passage's id, if it has one.
        start: first character in the passage's source.
        end: one past the last character.
        reason: why.
        score: the score that decided, if one did; higher is more relevant.
    """

    passage: int
    id: str | None
    start: int
    end: int
    reason: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class StageTrace:
    """One stage's run.

    Attributes:
        stage: its name.
        seconds: wall-clock time.
        tokens_in: the generator's tokens before.
        tokens_out: the generator's tokens after.
        dropped: what was dropped, and why.
        notes: anything else that the stage reports; plain JSON data.
        error: what went wrong, where the stage was skipped because of it.
    """

    stage: str
    seconds: float
    tokens_in: int
    tokens_out: int
    dropped: tuple[Dropped, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


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
        return {"seconds": self.seconds, "stages": [asdict(stage) for stage in self.stages]}

    def to_json(self, indent: int | None = None) -> str:
        """As JSON."""
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Trace:
        """The trace that `to_dict` described."""
        return cls(
            tuple(
                StageTrace(**{**stage, "dropped": tuple(Dropped(**d) for d in stage["dropped"])})
                for stage in data["stages"]
            )
        )
