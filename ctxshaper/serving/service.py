"""What every contract of the service shares: pipelines by name, limits, turns and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from ctxshaper.data import Budget, Context, Message, Passage
from ctxshaper.errors import CtxshaperError, InvalidInputError
from ctxshaper.pipelines import Pipeline
from ctxshaper.serving.admission import Admission
from ctxshaper.serving.logs import LOGGER
from ctxshaper.serving.metrics import Metrics
from ctxshaper.serving.settings import Settings
from ctxshaper.stages.parts import Parts

_T = TypeVar("_T")
_WARMING = "Who designed the Ember Bridge?"
# Seconds until loading is tried again.
_AGAIN = 5.0
BudgetLike = Budget | str | int | float | None


class UnknownModelError(InvalidInputError):
    """A request names a recipe that this service does not have."""


class Service:
    """The pipelines of a service and who may use them when. Of one event loop.

    Args:
        settings: what the service is told.
        parts: the models that all its recipes share; made from the settings if None.

    Attributes:
        pipelines: by the name under which clients ask for them.
        ready: whether the models are loaded and the service is not about to stop.
        failure: why they could not be loaded, if so.
    """

    def __init__(self, settings: Settings, parts: Parts | None = None) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.parts = parts or _parts(settings)
        self.pipelines = {}
        for name, recipe in settings.loaded_recipes().items():
            pipeline = Pipeline.from_recipe(recipe, **({"budget": settings.budget} if settings.budget else {}))
            pipeline.parts = self.parts
            self.pipelines[name] = pipeline
        self.admission = Admission(settings.concurrency, settings.queue)
        self.metrics.watch(self.admission)
        self.ready, self.failure = False, ""
        # One thread more than turns: health and metrics never wait behind them.
        self._threads = ThreadPoolExecutor(settings.concurrency + 1, thread_name_prefix="ctxshaper-serve")

    async def start(self) -> None:
        """Load the models, so that no request waits for them."""
        # What the pipelines hand to threads goes to the loop's own.
        asyncio.get_running_loop().set_default_executor(self._threads)
        while not self.ready:
            try:
                await asyncio.to_thread(self._warm)
            except CtxshaperError as error:
                # A generator elsewhere may come back.
                self.failure = str(error)
                LOGGER.critical("not ready; it is tried again", exc_info=error)
                await asyncio.sleep(_AGAIN)
            else:
                self.ready, self.failure = True, ""
                LOGGER.info("ready", extra={"fields": {"models": sorted(self.pipelines)}})

    def _warm(self) -> None:
        for pipeline in self.pipelines.values():
            # A question that these sentences answer: no warning of it belongs into the log.
            pipeline.shape(_WARMING, ["Ada Moreau designed the Ember Bridge. It is red."], "auto")

    def pipeline(self, name: str | None) -> Pipeline:
        """The pipeline of a request's `model`.

        Raises:
            UnknownModelError: there is none of this name.
        """
        found = self.pipelines.get(name or self.settings.recipe)
        if found is None:
            known = ", ".join(sorted(self.pipelines))
            raise UnknownModelError(f"there is no model {name!r:.100}; this service has {known}")
        return found

    def check(self, query: str, passages: Sequence[Passage]) -> None:
        """Refuse more than one request may hold.

        Raises:
            InvalidInputError: too many passages, or too much text.
        """
        most = self.settings.max_passages
        if len(passages) > most:
            raise InvalidInputError(f"a request may hold {most:,} passages, but got {len(passages):,}; send fewer")
        size, most = len(query) + sum(len(p.source) + len(p.title) for p in passages), self.settings.max_characters
        if size > most:
            raise InvalidInputError(f"a request may hold {most:,} characters, but got {size:,}; send less")

    async def shape(
        self,
        model: str | None,
        query: str,
        passages: Sequence[Passage],
        budget: BudgetLike = None,
        history: Sequence[Message] = (),
        timeout: float | None = None,
    ) -> Context:
        """Shape one context in its turn.

        Raises:
            QueueFullError: too many requests wait.
            InvalidInputError: as `Pipeline.shape`, or beyond the service's limits.
            DeadlineError: it took longer than it may.
        """
        pipeline = self.pipeline(model)
        self.check(query, passages)
        async with self.admission.turn(self.seconds(timeout)) as left:
            shaped = await pipeline.ashape(query, passages, budget, history=history, timeout=left)
        self.metrics.count(shaped)
        return shaped

    async def run(self, work: Callable[[float], _T], timeout: float | None = None) -> _T:
        """Run what blocks in its turn; `work` is given the seconds it has.

        Raises:
            QueueFullError: too many requests wait.
            DeadlineError: it took longer than it may.
        """
        async with self.admission.turn(self.seconds(timeout)) as left:
            return await asyncio.to_thread(copy_context().run, work, left)

    def seconds(self, asked: float | None) -> float:
        """How long a request may take: what it asks for, within the service's limit."""
        return min(asked or self.settings.timeout, self.settings.timeout)


def _parts(settings: Settings) -> Parts:
    options: dict[str, Any] = {"store": settings.store}
    if settings.model:
        from ctxshaper.reading.reader import Reader

        options = {"reader": Reader(settings.model, store=settings.store)}
    return Parts(**options)
