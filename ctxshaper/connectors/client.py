"""What every connector shares: a pipeline, made when it is first used, and the policy for what becomes of a request."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctxshaper import tracing
from ctxshaper.data import Budget, Context, Message, Passage, json_safe
from ctxshaper.errors import InvalidInputError

if TYPE_CHECKING:
    from ctxshaper.pipelines import Pipeline

Mode = Literal["shape", "shadow"]
OnError = Literal["raise", "skip"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        context: the shaped context; None where shaping failed and was skipped.
        shadow: whether it is only recorded.
        error: what went wrong, if something did.
    """

    context: Context | None
    shadow: bool = False
    error: str | None = None

    @property
    def applied(self) -> Context | None:
        """The shaped context, where it takes the place of the input."""
        return None if self.shadow else self.context

    @property
    def warnings(self) -> list[str]:
        """What the user should know about the result."""
        return list(self.context.warnings) if self.context else []

    @property
    def set_aside(self) -> list[dict[str, Any]]:
        """The passages that stages took out visibly: rank, reason, stage, score and spans of each."""
        taken = self.context.set_aside if self.context else ()
        return [
            {
                "rank": s.passage.rank,
                "reason": s.reason,
                "stage": s.stage,
                "score": json_safe(s.score),
                "spans": [[span.start, span.end] for span in s.spans],
            }
            for s in taken
        ]

    def report(self) -> dict[str, Any]:
        """As JSON-safe data, for a trace."""
        context = self.context
        return {
            "mode": "shadow" if self.shadow else "shape",
            "error": self.error,
            "tokens_in": context.tokens_in if context else None,
            "tokens": context.tokens if context else None,
            "warnings": self.warnings,
            "set_aside": self.set_aside,
            "trace": json_safe(context.trace.to_dict()) if context else None,
        }


class Client:
    """A pipeline, made when it is first used, with a connector's policy. Safe to share between threads.

    Args:
        pipeline: a pipeline, or the name or path of the recipe to make it from.
        budget: outranks the pipeline's own.
        mode: "shape", or "shadow" to record only.
        on_error: "raise", or "skip" to pass the input on.

    Raises:
        InvalidInputError: a pipeline or budget that cannot be used; RecipeError, one of these, for a recipe.
    """

    def __init__(self, pipeline: Any, budget: Any = None, mode: Mode = "shape", on_error: OnError = "raise") -> None:
        from ctxshaper.pipelines import Pipeline, Recipe

        if not isinstance(pipeline, (str, Path, Pipeline)):
            raise InvalidInputError(
                f"pipeline must be a ctxshaper.Pipeline or the name or path of a recipe, but got {pipeline!r:.80}"
            )
        Budget.parse(budget)
        self._source = pipeline
        self._pipeline = pipeline if isinstance(pipeline, Pipeline) else Recipe.load(pipeline)
        self._lock = threading.Lock()
        self.budget, self.mode, self.on_error = budget, mode, on_error

    def __reduce__(self) -> tuple[Any, ...]:
        # The lock and what a recipe loaded stay behind; a pipeline that was given copies itself by description.
        return type(self), (self._source, self.budget, self.mode, self.on_error)

    def pipeline(self) -> Pipeline:
        """The pipeline."""
        from ctxshaper.pipelines import Pipeline

        with self._lock:
            if not isinstance(self._pipeline, Pipeline):
                self._pipeline = Pipeline.from_recipe(self._pipeline)
            return self._pipeline

    def shape(self, query: str, passages: Sequence[Passage], history: Sequence[Message] = ()) -> Outcome:
        """Shape by the policy; `history` is the chat before the query."""
        try:
            return self._outcome(self.pipeline().shape(query, passages, self.budget, history=history))
        except Exception as error:  # noqa: BLE001  # the policy says what becomes of it
            return self._failed(error)

    async def ashape(self, query: str, passages: Sequence[Passage], history: Sequence[Message] = ()) -> Outcome:
        """The same without blocking the event loop."""
        import asyncio

        try:
            pipeline = await asyncio.to_thread(self.pipeline)
            return self._outcome(await pipeline.ashape(query, passages, self.budget, history=history))
        except Exception as error:  # noqa: BLE001  # the policy says what becomes of it
            return self._failed(error)

    def _outcome(self, context: Context) -> Outcome:
        errors = [f"{stage.stage}: {stage.error}" for stage in context.trace.stages if stage.error]
        return Outcome(context, self.mode == "shadow", "; ".join(errors) or None)

    def _failed(self, error: Exception) -> Outcome:
        if self.on_error == "raise":
            raise error
        problem = f"{type(error).__name__}: {error}"
        _log.warning("shaping failed, and the input is passed on as it is: %s", tracing.described(error))
        return Outcome(None, self.mode == "shadow", problem)
