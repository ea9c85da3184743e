"""The base of all stages: it owns timing, tracing, async and errors; a method of the literature writes one function."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from ctxshaper.data import Context, Passage, Span, json_safe, merge_spans
from ctxshaper.data.trace import Dropped, StageTrace
from ctxshaper.errors import CtxshaperError, StageError


@dataclass
class Log:
    """What a stage reports while it runs.

    Attributes:
        notes: anything worth a place in the trace; plain JSON data.
        reasons: why, and with which score, text was dropped: by passage rank, ranges of its source.
    """

    notes: dict[str, Any] = field(default_factory=dict)
    reasons: dict[int | None, list[tuple[Span, str, float | None]]] = field(default_factory=dict)

    def drop(self, passage: Passage, spans: Iterable[Span], reason: str, score: float | None = None) -> None:
        """Say why text is dropped. What a stage drops without saying is traced all the same, without a reason."""
        entries = self.reasons.setdefault(passage.rank, [])
        entries.extend((span, reason, score) for span in spans)


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One method of shaping. A subclass is a frozen dataclass: its fields are its options.

    Attributes:
        needs: names of fields that a pipeline fills in when they are None, such as the reader.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """The stage's name in traces and recipes."""
        return type(self).__name__

    @abstractmethod
    def shape(self, context: Context, log: Log) -> Context:
        """Shape a context.

        Args:
            context: what the stage is given; never changed.
            log: takes notes and reasons for the trace.

        Returns:
            The shaped context.
        """

    def bind(self, **shared: Any) -> Self:
        """The same stage with the shared parts that it needs and does not have yet."""
        own = {f.name for f in fields(self)}
        missing = {k: v for k, v in shared.items() if k in self.needs and k in own and getattr(self, k) is None}
        return replace(self, **missing) if missing else self

    def __call__(self, context: Context) -> Context:
        """Run the stage and add its trace.

        Raises:
            StageError: the stage failed in a way that it did not foresee; the cause is chained.
            CtxshaperError: an error of its own that says what to do.
        """
        started, log = time.perf_counter(), Log()
        try:
            shaped = self.shape(context, log)
        except CtxshaperError:
            raise
        except Exception as error:
            raise StageError(
                f"{self.name} failed: {type(error).__name__}: {error}. on_error='skip' passes the context on unchanged"
            ) from error
        trace = StageTrace(
            stage=self.name,
            seconds=time.perf_counter() - started,
            tokens_in=context.tokens,
            tokens_out=shaped.tokens,
            dropped=tuple(_dropped(context.passages, shaped.passages, log)),
            notes=json_safe(log.notes),
        )
        return replace(shaped, trace=context.trace.add(trace))

    async def acall(self, context: Context) -> Context:
        """The same without blocking the event loop."""
        return await asyncio.to_thread(self, context)


def _dropped(before: Iterable[Passage], after: Iterable[Passage], log: Log) -> Iterable[Dropped]:
    kept: dict[int | None, tuple[Span, ...]] = {}
    for passage in after:
        kept[passage.rank] = (*kept.get(passage.rank, ()), *passage.spans)
    for passage in before:
        rank = -1 if passage.rank is None else passage.rank
        for missing in gaps(passage.spans, merge_spans(kept.get(passage.rank, ()))):
            known = [entry for entry in log.reasons.get(passage.rank, ()) if entry[0].overlaps(missing)]
            for span, reason, score in known or [(missing, "not kept", None)]:
                start, end = max(span.start, missing.start), min(span.end, missing.end)
                yield Dropped(rank, passage.id, start, end, reason, score)


def gaps(whole: Iterable[Span], kept: Iterable[Span]) -> list[Span]:
    """The parts of some ranges that others do not cover.

    Args:
        whole: sorted and disjoint.
        kept: sorted and disjoint.
    """
    missing, covers = [], list(kept)
    for span in whole:
        start = span.start
        for cover in covers:
            if cover.end <= start or cover.start >= span.end:
                continue
            if cover.start > start:
                missing.append(Span(start, cover.start))
            start = max(start, cover.end)
        if start < span.end:
            missing.append(Span(start, span.end))
    return missing
