"""A run: what one request's stages share while they work, and what each of them reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctxshaper import tracing
from ctxshaper.data import Decision, Passage, Span
from ctxshaper.stages.parts import Parts

if TYPE_CHECKING:
    from ctxshaper.reading.reading import Reading


@dataclass
class Log:
    """What a stage reports while it runs.

    Attributes:
        notes: anything worth a place in the trace; plain JSON data.
        decisions: what it decided about each unit of text.
        warnings: what the user should know, in plain sentences; they are logged, so they quote no text.
    """

    notes: dict[str, Any] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def decide(self, passage: Passage, span: Span, *, kept: bool, reason: str, score: float | None = None) -> None:
        """Note what was decided about one unit of a passage."""
        self.decisions.append(Decision(passage.rank or 0, span, kept, reason, score))

    def drop(self, passage: Passage, spans: Iterable[Span], reason: str, score: float | None = None) -> None:
        """Say why text is dropped. What a stage drops without saying is traced all the same, as "not kept"."""
        for span in spans:
            self.decide(passage, span, kept=False, reason=reason, score=score)


@dataclass
class Run:
    """One request on its way through the stages.

    Attributes:
        parts: the models that stages share.
        log: takes what the present stage reports.
    """

    parts: Parts
    log: Log = field(default_factory=Log)
    _readings: dict[tuple[str, tuple[tuple[str, str], ...]], Reading] = field(default_factory=dict, repr=False)

    def read(self, query: str, passages: Sequence[Passage]) -> Reading:
        """The reader's scores of these passages; stages that ask the same question cost one reading.

        Raises:
            InvalidInputError: a query or passages that the reader cannot take.
            ModelError: the reader's model cannot be loaded.
        """
        name = (query, tuple((p.title, p.source) for p in passages))
        if name not in self._readings:
            self._readings[name] = self.reading(passages, lambda: self.parts.reader.read(query, passages))
        return self._readings[name]

    def reading(self, passages: Sequence[Passage], read: Callable[[], Reading]) -> Reading:
        """What a reader gives, in a span; what it took is noted under `notes["readings"]`."""
        with tracing.span("ctxshaper.read", passages=len(passages)) as span:
            found = read()
            span.set(**{key: found.notes.get(key) for key in ("cache_hits", "cache_misses", "from_store")})
        self.log.notes.setdefault("readings", []).append(dict(found.notes))
        return found
