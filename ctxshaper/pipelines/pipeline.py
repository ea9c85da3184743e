"""A row of stages that share their parts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ctxshaper import tracing
from ctxshaper.data import Attention, Budget, Context, Message, Passage, Rendering, StageTrace
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import DeadlineError, InvalidInputError
from ctxshaper.pipelines.attention import attention_of
from ctxshaper.pipelines.budget import FitBudget
from ctxshaper.pipelines.driving import adrive
from ctxshaper.pipelines.recipes import Recipe
from ctxshaper.stages.base import Stage, Steps, drive
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Run

if TYPE_CHECKING:
    from ctxshaper.generators import Generator
    from ctxshaper.models.embedder import Embedder
    from ctxshaper.models.language_model import LanguageModel
    from ctxshaper.reading.reading import PassageReader, Remembered
    from ctxshaper.reading.store import KeyStore

OnError = Literal["raise", "skip"]
Passages = Iterable[Passage | str]
# Requests of a batch that are under way together: the reader runs those that meet as one batch, and while one waits for
# its generator, others compute. Over 16 warm questions on one core: 1.49 s one by one, 1.22 s at 4, 1.13 s at 16.
_AT_ONCE = 16
# Passages of a stream that stages compute something of together.
_AHEAD = 256
BudgetLike = Budget | str | int | float | None

_log = logging.getLogger(__name__)


class Pipeline:
    """Shapes what a retriever returned into what a generator reads. Thread-safe.

    Models are made when a stage first asks for them. Pickled or copied, a pipeline carries their descriptions and not
    the models, so that process pools and frameworks that copy their components work.

    Args:
        stages: run in this order.
        reader: scores passages by attention; the embedded model's if None.
        embedder: embeds sentences; the embedded model if None.
        generator: writes; the language model if None.
        language_model: a whole model for stages that need passages in sight; if None the reader's model, or the
            embedded one.
        tokenizer: the generator's own, to count tokens with: a tokenizer of transformers, tokenizers or tiktoken,
            or a function from text to a number; the reader's if None.
        store: where the embedded models keep on disk what they computed of passages, for other processes and restarts:
            a folder (made at first use), or a `KeyStore`; None for none. A reader of your own takes its store itself,
            and the embedded embedder then uses that one too.
        budget: used where `shape` is given none: tokens (500), a share ("30%", 0.3), "auto", or None for no limit.
        rendering: how passages become text.
        on_error: "raise", or "skip": a stage that fails passes the context on unchanged, and the trace and a warning
            say so.

    Attributes:
        recipe: the name of the recipe that it was made from, for traces; None without one.

    Raises:
        InvalidInputError: an option that is not allowed.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        reader: PassageReader | None = None,
        embedder: Embedder | None = None,
        generator: Generator | None = None,
        language_model: LanguageModel | None = None,
        tokenizer: Any = None,
        store: KeyStore | str | Path | None = None,
        budget: BudgetLike = None,
        rendering: Rendering | None = None,
        on_error: OnError = "raise",
    ) -> None:
        for stage in stages:
            if not isinstance(stage, Stage):
                raise InvalidInputError(f"a pipeline takes stages, but got {stage!r:.80}")
        if on_error not in ("raise", "skip"):
            raise InvalidInputError(f"on_error must be 'raise' or 'skip', but got {on_error!r:.80}")
        self.stages = tuple(stages)
        self.parts = Parts(
            reader=reader,
            embedder=embedder,
            generator=generator,
            language_model=language_model,
            tokenizer=tokenizer,
            store=store,
        )
        self.budget = Budget.parse(budget)
        self.rendering = rendering or Rendering()
        self.on_error = on_error
        self.recipe: str | None = None

    def __repr__(self) -> str:
        budget = "" if self.budget == Budget() else f", budget={str(self.budget)!r}"
        return f"Pipeline([{', '.join(map(_said, self.stages))}]{budget})"

    @classmethod
    def from_recipe(cls, recipe: str | Path | Recipe, **parts: Any) -> Self:
        """A pipeline from a recipe that ships or from a YAML file.

        Args:
            recipe: a name (`fast`, `qa`, `careful`, `gemfilter`, `attention_rag`), a path, or a loaded recipe.
            **parts: arguments of the class; they outrank the recipe's.

        Raises:
            RecipeError: an unknown name, stage or field, or bad YAML; the message names line and field.
        """
        loaded = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
        options: dict[str, Any] = {
            "budget": loaded.budget,
            "rendering": loaded.rendering,
            "on_error": loaded.on_error,
        }
        made = cls(loaded.stages, **{**options, **parts})
        made.recipe = loaded.name
        return made

    def remember(self, passages: Passages) -> Remembered:
        """Compute ahead of time what these stages need of passages, so that the first query finds it: keys, embeddings.

        Args:
            passages: a stream of any length; passages or plain text.

        Returns:
            What reading them took.

        Raises:
            InvalidInputError: something that is no passage, or a single one with far too much text.
        """
        return self.parts.reader.remember(self.prepare(passages))

    def prepare(self, passages: Passages) -> Iterator[Passage]:
        """The same without the reader's keys, and pass the passages on: for a stream that a reader of yours reads."""
        stream = map(Passage.of, passages)
        while some := tuple(islice(stream, _AHEAD)):
            for stage in self.stages:
                stage.remember(some, self.parts)
            yield from some

    def shape(
        self,
        query: str,
        passages: Passages,
        budget: BudgetLike = None,
        *,
        history: Sequence[Message] = (),
        timeout: float | None = None,
    ) -> Context:
        """Shape one context.

        Args:
            query: the user's question.
            passages: in the retriever's order, best first; passages or plain text.
            budget: outranks the pipeline's own.
            history: the chat before this query.
            timeout: seconds after which the work stops, at the next layer, batch or stage; None for no limit.

        Returns:
            The shaped context: `text`, `tokens`, `passages` with `spans`, `trace` and `warnings`.

        Raises:
            InvalidInputError: an empty query, passages of another type, or a budget that cannot be read.
            DeadlineError: it took longer than `timeout`.
            StageError: a stage failed, and `on_error` is "raise".
        """
        return self._shape(query, passages, budget, history, Deadline(timeout))

    async def ashape(
        self,
        query: str,
        passages: Passages,
        budget: BudgetLike = None,
        *,
        history: Sequence[Message] = (),
        timeout: float | None = None,
    ) -> Context:
        """The same as `shape`, without blocking the event loop; cancelled, its work stops as it does at `timeout`.

        What stages compute runs in a thread; answers of a generator are awaited.
        """
        return await self._ashape(query, passages, budget, history, Deadline(timeout))

    def shape_batch(
        self, requests: Iterable[tuple[str, Passages]], budget: BudgetLike = None, *, timeout: float | None = None
    ) -> list[Context]:
        """Shape many contexts, up to 16 at a time; what they share is read once.

        The reader runs the queries that meet as one batch, and likewise the passages that it has not read yet. Scores
        are those of single calls up to the rounding of floats. The first request that fails ends the others.

        Args:
            requests: pairs of query and passages.
            budget: outranks the pipeline's own.
            timeout: seconds for all of them together.

        Raises:
            InvalidInputError, DeadlineError, StageError: as `shape`.
        """
        limit = Deadline(timeout)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ctxshaper-shape") as threads:
            jobs = [
                threads.submit(copy_context().run, self._shape, query, passages, budget, (), limit)
                for query, passages in requests
            ]
            try:
                return [job.result() for job in jobs]
            finally:
                limit.cancel()
                threads.shutdown(wait=False, cancel_futures=True)

    async def ashape_batch(
        self, requests: Iterable[tuple[str, Passages]], budget: BudgetLike = None, *, timeout: float | None = None
    ) -> list[Context]:
        """The same as `shape_batch`, without blocking the event loop."""
        limit, turns = Deadline(timeout), asyncio.Semaphore(_AT_ONCE)

        async def one(query: str, passages: Passages) -> Context:
            async with turns:
                return await self._ashape(query, passages, budget, (), limit)

        tasks = [asyncio.create_task(one(query, passages)) for query, passages in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # one that failed, or our own cancellation, ends the others
                task.cancel()

    def attention(self, shaped: Context, timeout: float | None = None) -> list[Attention]:
        """What the query of a shaped context looked at, token by token: for its page, `shaped.to_html(attention)`.

        The passages were read for `shape`, so this takes what one more question over them takes.

        Args:
            shaped: of this pipeline, or of another with the same reader's model.
            timeout: seconds; None for no limit.

        Returns:
            All heads together and, where the reader tells them apart (`Reader.read_heads`), each by itself.

        Raises:
            InvalidInputError: a context read from JSON, which no longer holds the passages as they were.
            DeadlineError: it took longer than `timeout`.
        """
        with under(Deadline(timeout)):
            return attention_of(self.parts.reader, shaped)

    def _shape(
        self, query: str, passages: Passages, budget: BudgetLike, history: Sequence[Message], limit: Deadline
    ) -> Context:
        with under(limit):
            run = Run(self.parts)
            return drive(self._steps(run, query, passages, budget, history), run)

    async def _ashape(
        self, query: str, passages: Passages, budget: BudgetLike, history: Sequence[Message], limit: Deadline
    ) -> Context:
        run = Run(self.parts)
        steps = self._steps(run, query, passages, budget, history)
        try:
            with under(limit):
                return await adrive(steps, run, limit)
        except asyncio.CancelledError:
            limit.cancel()
            raise

    def _steps(self, run: Run, query: str, passages: Passages, budget: BudgetLike, history: Sequence[Message]) -> Steps:
        names = [stage.name for stage in self.stages]
        with tracing.span("ctxshaper.shape", recipe=self.recipe, stages=names) as span:
            span.say({"input.value": query, "input.mime_type": "text/plain"})
            start = self._start(query, passages, budget, history)
            span.set(passages=len(start.passages), tokens_in=start.tokens_in, budget=str(start.budget))
            context = yield from self._staged(start, run)
            span.set(kept=len(context.passages), tokens_out=context.tokens, warnings=len(context.warnings))
            span.set(set_aside=len(context.set_aside), answerable=context.answerable)
            span.say({"output.value": context.text, "output.mime_type": "text/plain"})
            return context

    def _staged(self, start: Context, run: Run) -> Steps:
        context = start
        for stage in self.stages:
            context = yield from self._tried(stage, context, run)
        # The last word on the budget is worth a line of the trace only where it had to speak.
        fitted = yield from FitBudget().traced(context, run)
        if fitted.passages != context.passages:
            context = fitted
        if start.text and not context.text and not context.warnings:
            # Stages say so themselves where they know why.
            warning = f"nothing is kept: no stage left anything (budget: {start.budget})"
            _log.warning(warning)
            context = replace(context, warnings=(warning,))
        return context

    def _start(self, query: str, passages: Passages, budget: BudgetLike, history: Sequence[Message]) -> Context:
        if not isinstance(query, str) or not query.strip():
            raise InvalidInputError(f"the query must be a text with content, but got {query!r:.80}")
        given = Context(query, passages, lambda _: 0, tokens_in=0)  # type: ignore[arg-type]  # any iterable; checked there
        return Context(
            query=query,
            # Ranks are places in this list, whatever an earlier shaping called them.
            passages=tuple(passage.ranked(rank) for rank, passage in enumerate(given.passages)),
            count=self.parts.count,
            budget=self.budget if budget is None else Budget.parse(budget),
            rendering=self.rendering,
            history=tuple(history),
        )

    def _tried(self, stage: Stage, context: Context, run: Run) -> Steps:
        """One stage by the policy for errors."""
        started = time.perf_counter()
        try:
            return (yield from stage.traced(context, run))
        except DeadlineError:
            raise  # no time is left for the stages behind it either
        except Exception as error:
            if self.on_error == "raise":
                raise
            problem = f"{type(error).__name__}: {error}"
            trace = StageTrace(
                stage=stage.name,
                seconds=time.perf_counter() - started,
                tokens_in=context.tokens,
                tokens_out=context.tokens,
                error=problem,
            )
            _log.warning("%s failed and was skipped: %s", stage.name, tracing.described(error))
            warning = f"{stage.name} failed and was skipped: {problem}"
            return replace(context, trace=context.trace.add(trace), warnings=(*context.warnings, warning))


def _said(stage: Stage) -> str:
    """A stage as one would write it: options that are the usual ones are left out."""
    options = ((f.name, getattr(stage, f.name)) for f in fields(stage) if getattr(stage, f.name) != f.default)
    return f"{stage.name}({', '.join(f'{name}={value!r}' for name, value in options)})"
