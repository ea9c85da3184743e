"""What every connector shares: a pipeline made when first used, its policy, and the record that a document carries."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctxshaper.data import Budget, Context, Passage, join_kept, json_safe, shown
from ctxshaper.errors import InvalidInputError

if TYPE_CHECKING:
    from ctxshaper.pipelines import Pipeline

Mode = Literal["shape", "shadow"]
OnError = Literal["raise", "skip"]
KEY = "ctxshaper"


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

    def report(self) -> dict[str, Any]:
        """As JSON-safe data, for a trace."""
        context = self.context
        return {
            "mode": "shadow" if self.shadow else "shape",
            "error": self.error,
            "tokens_in": context.tokens_in if context else None,
            "tokens": context.tokens if context else None,
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
        # Locks and loaded models stay behind: a copy in another process makes its own pipeline.
        return type(self), (self._source, self.budget, self.mode, self.on_error)

    def pipeline(self) -> Pipeline:
        """The pipeline."""
        from ctxshaper.pipelines import Pipeline

        with self._lock:
            if not isinstance(self._pipeline, Pipeline):
                self._pipeline = Pipeline.from_recipe(self._pipeline)
            return self._pipeline

    def shape(self, query: str, passages: Sequence[Passage]) -> Outcome:
        """Shape by the policy."""
        try:
            return self._outcome(self.pipeline().shape(query, passages, self.budget))
        except Exception as error:  # noqa: BLE001  # the policy says what becomes of it
            return self._failed(error)

    async def ashape(self, query: str, passages: Sequence[Passage]) -> Outcome:
        """The same without blocking the event loop."""
        import asyncio

        try:
            pipeline = await asyncio.to_thread(self.pipeline)
            return self._outcome(await pipeline.ashape(query, passages, self.budget))
        except Exception as error:  # noqa: BLE001  # the policy says what becomes of it
            return self._failed(error)

    def _outcome(self, context: Context) -> Outcome:
        errors = [f"{stage.stage}: {stage.error}" for stage in context.trace.stages if stage.error]
        return Outcome(context, self.mode == "shadow", "; ".join(errors) or None)

    def _failed(self, error: Exception) -> Outcome:
        if self.on_error == "raise":
            raise error
        return Outcome(None, self.mode == "shadow", f"{type(error).__name__}: {error}")


def own(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record that an earlier shaping left in a document's metadata."""
    record = metadata.get(KEY)
    return record if isinstance(record, dict) and "spans" in record else None


@dataclass(frozen=True, slots=True)
class Result:
    """What one document becomes.

    Attributes:
        rank: place of its original in the list that was given.
        text: what it now says.
        score: of the passage, if it has one.
        record: how the text arises from its source; plain JSON data.
    """

    rank: int
    text: str
    score: float | None
    record: dict[str, Any]


def results(passages: Sequence[Passage], outcome: Outcome, earlier: Sequence[dict[str, Any] | None]) -> list[Result]:
    """The documents that the generator reads, best place first; all as they were where the input is passed on.

    Args:
        passages: as retrieved.
        outcome: of the request.
        earlier: for each, the record of an earlier shaping, whose text is this one's source.

    Returns:
        A result's record holds `spans`: ranges of the source, which joined by `ellipsis` are the text;
        `source_length` in characters; `rank` in the retriever's list; `generated`: an LM wrote the text and the spans
        support it; `dropped`: ranges with reason and score; `shadow`: what would have been kept, and at which place
        (null: nowhere); `error`; `before`: the earlier record.
    """
    context, dropped = outcome.context, dict[int, list[dict[str, Any]]]()
    for stage in context.trace.stages if context else ():
        for d in stage.dropped:
            reason = {"start": d.start, "end": d.end, "reason": d.reason, "score": json_safe(d.score)}
            dropped.setdefault(d.passage, []).append({**reason, "stage": stage.stage})
    ranked = enumerate(passages) if outcome.applied is None else ((p.rank or 0, p) for p in outcome.applied.passages)
    made = []
    for rank, passage in ranked:
        ellipsis = context.rendering.ellipsis if context else ""
        spans = passage.spans if passage.generated else shown(passage.source, passage.spans)
        text = passage.text if passage.generated else join_kept(passage.source, passage.spans, ellipsis)
        if outcome.applied is not None and not text.strip():
            continue  # it would leave no trace in the rendered text either
        record: dict[str, Any] = {
            "spans": [[s.start, s.end] for s in spans],
            "ellipsis": ellipsis,
            "source_length": len(passage.source),
            "rank": rank,
            "generated": passage.generated,
            "dropped": dropped.get(rank, []),
        }
        if outcome.shadow and context:
            record["shadow"] = _shadow(context, rank)
        if outcome.error:
            record["error"] = outcome.error
        if before := earlier[rank]:
            record["before"] = before
        made.append(Result(rank, text, passage.score, record))
    return made


def _shadow(context: Context, rank: int) -> dict[str, Any]:
    places = [(place, passage) for place, passage in enumerate(context.passages) if passage.rank == rank]
    return {
        "kept": [[s.start, s.end] for _, passage in places for s in passage.spans],
        "position": places[0][0] if places else None,
    }
