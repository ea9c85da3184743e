"""A row of stages that share one reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from ctxshaper.data import Budget, Context, Passage, Rendering, TokenCounter
from ctxshaper.data.trace import StageTrace
from ctxshaper.errors import InvalidInputError
from ctxshaper.generators import Generator, LocalGenerator
from ctxshaper.models.abstention import Abstention
from ctxshaper.models.embedder import Embedder
from ctxshaper.pipelines.budget import FitBudget
from ctxshaper.pipelines.recipes import Recipe
from ctxshaper.reading.focal import FocalReader
from ctxshaper.reading.reader import Reader
from ctxshaper.stages.base import Stage
from ctxshaper.text.tokenization import token_counter

OnError = Literal["raise", "skip"]
Passages = Iterable[Passage | str]

# What stages may need and a pipeline makes for all of them together.
_MAKERS: dict[str, Callable[[], Any]] = {
    "reader": Reader,
    "embedder": Embedder,
    "abstention": Abstention,
    "generator": LocalGenerator,
    "focal": FocalReader,
}


class Pipeline:
    """Shapes what a retriever returned into what a generator reads.

    Args:
        stages: run in this order.
        reader: shared by all stages that read; the embedded model if None and needed.
        embedder: shared by all stages that embed; the embedded model if None and needed.
        generator: shared by all stages that let a language model write; the embedded model if None and needed.
        tokenizer: the generator's own, to count tokens with: a tokenizer of transformers, tokenizers or tiktoken,
            or a function from text to a number; the reader's if None.
        budget: used where `shape` is given none: tokens (500), a share ("30%", 0.3), "auto", or None for no limit.
        rendering: how passages become text.
        on_error: "raise", or "skip": a stage that fails passes the context on unchanged, and the trace says so.

    Raises:
        InvalidInputError: an option that is not allowed.
        MissingDependencyError: a model is needed that is not installed.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        *,
        reader: Reader | None = None,
        embedder: Embedder | None = None,
        generator: Generator | None = None,
        tokenizer: Any = None,
        budget: Budget | str | int | float | None = None,
        rendering: Rendering | None = None,
        on_error: OnError = "raise",
    ) -> None:
        for stage in stages:
            if not isinstance(stage, Stage):
                raise InvalidInputError(f"a pipeline takes stages, but got {stage!r}")
        if on_error not in ("raise", "skip"):
            raise InvalidInputError(f"on_error must be 'raise' or 'skip', but got {on_error!r}")
        shared: dict[str, Any] = {"reader": reader, "embedder": embedder, "generator": generator}
        wanted = {name for stage in stages for name in stage.needs if getattr(stage, name) is None}
        for name in sorted(wanted | (set() if tokenizer is not None else {"reader"})):
            shared[name] = shared.get(name) or _MAKERS[name]()
        self.reader: Reader | None = shared["reader"]
        self.stages = tuple(stage.bind(**shared) for stage in stages)
        self.budget = Budget.parse(budget)
        self.rendering = rendering or Rendering()
        self.on_error = on_error
        if tokenizer is not None:
            self.count: TokenCounter = token_counter(tokenizer)
        else:
            self.count = shared["reader"].count_tokens

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
        return cls(loaded.stages, **{**options, **parts})

    def shape(self, query: str, passages: Passages, budget: Budget | str | int | float | None = None) -> Context:
        """Shape one context.

        Args:
            query: the user's question.
            passages: in the retriever's order, best first; passages or plain text.
            budget: outranks the pipeline's own.

        Returns:
            The shaped context: `text`, `tokens`, `passages` with `spans`, and `trace`.

        Raises:
            InvalidInputError: an empty query, passages of another type, or a budget that cannot be read.
            StageError: a stage failed, and `on_error` is "raise".
        """
        context = self._start(query, passages, budget)
        for stage in (*self.stages, FitBudget()):
            context = self._run(stage, context)
        return context

    async def ashape(self, query: str, passages: Passages, budget: Budget | str | int | float | None = None) -> Context:
        """The same as `shape`, without blocking the event loop."""
        return await asyncio.to_thread(self.shape, query, passages, budget)

    def shape_batch(
        self, requests: Iterable[tuple[str, Passages]], budget: Budget | str | int | float | None = None
    ) -> list[Context]:
        """Shape many contexts; a passage that several requests share is read once."""
        return [self.shape(query, passages, budget) for query, passages in requests]

    async def ashape_batch(
        self, requests: Iterable[tuple[str, Passages]], budget: Budget | str | int | float | None = None
    ) -> list[Context]:
        """The same as `shape_batch`, without blocking the event loop."""
        return await asyncio.to_thread(self.shape_batch, list(requests), budget)

    def _start(self, query: str, passages: Passages, budget: Budget | str | int | float | None) -> Context:
        if not isinstance(query, str) or not query.strip():
            raise InvalidInputError(f"the query must be a text with content, but got {query!r:.80}")
        if isinstance(passages, (str, bytes)):
            raise InvalidInputError("passages must be a list; for one passage pass [text]")
        ranked = tuple(replace(Passage.of(p), rank=rank) for rank, p in enumerate(passages))
        return Context(
            query=query,
            passages=ranked,
            count=self.count,
            budget=self.budget if budget is None else Budget.parse(budget),
            rendering=self.rendering,
        )

    def _run(self, stage: Stage, context: Context) -> Context:
        started = time.perf_counter()
        try:
            shaped = stage(context)
        except Exception as error:
            if self.on_error == "raise":
                raise
            trace = StageTrace(
                stage=stage.name,
                seconds=time.perf_counter() - started,
                tokens_in=context.tokens,
                tokens_out=context.tokens,
                error=f"{type(error).__name__}: {error}",
            )
            return replace(context, trace=context.trace.add(trace))
        # The last word on the budget is worth a line only where it had to speak.
        return context if isinstance(stage, FitBudget) and shaped.passages == context.passages else shaped
