"""The bases of all stages: they own timing, tracing, units, selection and errors; a method writes one function."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Generator as Flow
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import ClassVar, Literal, TypeAlias

from ctxshaper import tracing
from ctxshaper.data import Context, Decision, Passage, Span, StageTrace, gaps, merge_spans
from ctxshaper.errors import CtxshaperError, InvalidInputError, StageError
from ctxshaper.generators.base import Prompt
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.recorded import record
from ctxshaper.stages.run import Log, Run
from ctxshaper.stages.trimming import select_or_trim
from ctxshaper.stages.units import Unit, UnitKind, units_of

# What a stage that lets a language model write yields (prompts), is sent (their answers) and returns.
Steps: TypeAlias = Flow[Sequence[Prompt], list[str], Context]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Stage(ABC):
    """One method of shaping. A subclass is a frozen dataclass: its fields are its options.

    Attributes:
        span_kind: what viewers of traces draw it as: "RERANKER" where it chooses and orders, "CHAIN" otherwise.
    """

    span_kind: ClassVar[Literal["RERANKER", "CHAIN"]] = "RERANKER"

    @property
    def name(self) -> str:
        """The stage's name in traces and recipes."""
        return type(self).__name__

    @abstractmethod
    def shape(self, context: Context, run: Run) -> Context:
        """Shape a context.

        Args:
            context: what the stage is given; never changed.
            run: the parts that stages share, and the log that takes notes, decisions and warnings.

        Returns:
            The shaped context.
        """

    def steps(self, context: Context, run: Run) -> Steps:
        """`shape`, interrupted wherever a language model has to write; see `WritingStage`."""
        return self.shape(context, run)
        yield  # makes this a generator function, which never gets here

    def remember(self, passages: Sequence[Passage], parts: Parts) -> None:  # noqa: B027  # a hook: most need nothing
        """Compute ahead of time what the stage needs of each passage whatever the query, where a part remembers it.

        The reader's keys are not its matter: `Pipeline.remember` sees to them.
        """

    def traced(self, context: Context, run: Run) -> Steps:
        """`steps` in a span, with the trace of what happened added to the context; warnings go to the log too.

        Raises:
            StageError: the stage failed in a way that it did not foresee; the cause is chained.
            CtxshaperError: an error of its own that says what to do.
        """
        with tracing.span(f"ctxshaper.stage.{self.name}", self.span_kind) as span:
            shaped, log = yield from self._timed(context, run)
            record(span, context, shaped, log, documents=self.span_kind == "RERANKER")
        for warning in log.warnings:
            _log.warning("%s: %s", self.name, warning)
        warnings = (*shaped.warnings, *(f"{self.name}: {warning}" for warning in log.warnings))
        return replace(shaped, warnings=warnings)

    def _timed(self, context: Context, run: Run) -> Flow[Sequence[Prompt], list[str], tuple[Context, Log]]:
        started, log = time.perf_counter(), Log()
        try:
            shaped = yield from self.steps(context, replace(run, log=log))
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
            decisions=(*log.decisions, *_unsaid(context.passages, shaped.passages, log.decisions)),
            notes=log.notes,
        )
        return replace(shaped, trace=context.trace.add(trace)), log

    def __call__(self, context: Context, parts: Parts | None = None) -> Context:
        """Run the stage by itself and add its trace; the embedded models where no parts are given."""
        run = Run(parts or Parts())
        return drive(self.traced(context, run), run)


@dataclass(frozen=True, kw_only=True)
class ScoringStage(Stage):
    """A method that scores units of text: a subclass writes `score`, and the best units that fit are kept.

    Attributes:
        unit: what is kept or dropped whole: "sentence", "block" (paragraph, list item, row, code) or "passage".
    """

    unit: UnitKind = "sentence"

    def __post_init__(self) -> None:
        if self.unit not in ("sentence", "block", "passage"):
            raise InvalidInputError(f"unit must be sentence, block or passage, but got {self.unit!r}")

    @abstractmethod
    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """Score units of text.

        Args:
            context: holds the passages.
            units: in reading order.
            run: the parts that stages share, and the log.

        Returns:
            One finite number per unit (a list or an array [n]), higher is more relevant.
        """

    def likely(self, units: Sequence[Unit], scores: Sequence[float], log: Log) -> Sequence[int]:  # noqa: ARG002
        """Which units an adaptive budget keeps at most, as places in `units`; all, unless a method knows better."""
        return range(len(units))

    def shape(self, context: Context, run: Run) -> Context:
        """Keep the best units that fit into the budget, or a part of the best where none does."""
        if not context.budget.adaptive and (context.limit is None or context.tokens <= context.limit):
            run.log.notes["fits_already"] = True
            return context
        units = units_of(context, self.unit)
        if not units:
            return context.with_passages(())
        scores = [float(score) for score in self.score(context, units, run)]
        if len(scores) != len(units) or not all(map(math.isfinite, scores)):
            raise StageError(
                f"{self.name}.score must give one finite number for each of {len(units)} units, but gave "
                f"{len(scores)}, {sum(not math.isfinite(s) for s in scores)} of them not finite"
            )
        run.log.notes["units"] = len(units)
        unlikely: dict[int, str] = {}
        if context.budget.adaptive:
            likely = set(self.likely(units, scores, run.log))
            unlikely = {place: "unlikely to be evidence" for place in range(len(units)) if place not in likely}

        def rescore(parts: Sequence[Unit]) -> Sequence[float]:
            return self.score(context, parts, replace(run, log=Log()))

        return select_or_trim(context, units, scores, run.log, context.limit, rescore, unlikely)


@dataclass(frozen=True, kw_only=True)
class WritingStage(Stage):
    """A method that lets a language model write: a subclass writes `steps`.

    `steps` yields the prompts that it wants answered, is sent the answers in their order, and returns the context. So
    one function serves callers that block and callers that await: neither waits inside it.
    """

    span_kind = "CHAIN"

    @abstractmethod
    def steps(self, context: Context, run: Run) -> Steps:
        """Shape a context, yielding prompts and taking their answers."""

    def shape(self, context: Context, run: Run) -> Context:
        """The same, waiting for the generator."""
        return drive(self.steps(context, run), run)


def drive(steps: Steps, run: Run) -> Context:
    """Run steps to their end, waiting for the generator wherever they ask."""
    try:
        prompts = next(steps)
        while True:
            try:
                with tracing.span("ctxshaper.generate", prompts=len(prompts)):
                    answers = run.parts.generator.generate_batch(prompts)
            except Exception as error:  # noqa: BLE001  # the stage may know what to do without an answer
                prompts = steps.throw(error)
            else:
                prompts = steps.send(answers)
    except StopIteration as done:
        context: Context = done.value
        return context
    finally:
        steps.close()  # here and now, where the spans that it has begun are current


def _unsaid(before: Iterable[Passage], after: Iterable[Passage], said: Iterable[Decision]) -> Iterable[Decision]:
    """A decision for every range that is gone without one."""
    covered: dict[int, list[Span]] = {}
    for passage in after:
        covered.setdefault(passage.rank or 0, []).extend(passage.spans)
    for decision in said:
        if not decision.kept:
            covered.setdefault(decision.passage, []).append(decision.span)
    for passage in before:
        rank = passage.rank or 0
        if _tiled(passage.spans, covered.get(rank, [])):
            continue
        for missing in gaps(passage.spans, merge_spans(covered.get(rank, ()))):
            yield Decision(rank, missing, kept=False, reason="not kept")


def _tiled(whole: Sequence[Span], parts: list[Span]) -> bool:
    """Whether parts cover one range without a gap: mostly they do, and no gap has to be looked for. Sorts them."""
    if len(whole) != 1:
        return not whole
    parts.sort(key=attrgetter("start"))
    reached = whole[0].start
    for part in parts:
        if part.start > reached:
            return False
        reached = max(reached, part.end)
    return reached >= whole[0].end
