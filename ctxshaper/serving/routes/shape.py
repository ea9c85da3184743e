"""`POST /v1/shape`: all of ctxshaper over HTTP."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from ctxshaper.data import Context, Message
from ctxshaper.serving.answers import Answer, StrictRoute
from ctxshaper.serving.routes.common import FAILURES, BudgetField, ModelField, Query, Served, Texts, note, passages_of

router = APIRouter(route_class=StrictRoute, tags=["ctxshaper"])


class Turn(BaseModel):
    """One turn of the chat before."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class ShapeRequest(BaseModel):
    """A question and the passages that a retriever returned for it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": "Who designed the Ember Bridge?",
                    "passages": [
                        {"id": "a", "title": "Ember Bridge", "text": "It was designed by Ada Moreau. It is red."},
                        "Bananas are rich in potassium.",
                    ],
                    "budget": "50%",
                }
            ]
        }
    )
    query: Query
    passages: Texts
    budget: BudgetField = None
    model: ModelField = None
    history: Annotated[list[Turn], Field(description="The chat before this question.")] = []
    timeout: Annotated[float | None, Field(gt=0, description="Seconds; at most the service's own limit.")] = None
    trace: Annotated[bool, Field(description="Whether the answer holds what each stage decided, unit by unit.")] = False
    page: Annotated[bool, Field(description="Whether it holds a page for people, as HTML without script.")] = False
    attention: Annotated[bool, Field(description="Whether that page shows what each head looked at.")] = False


class ShapedPassage(BaseModel):
    """What is kept of one passage.

    Attributes:
        index: its place in the request.
        id: its name, if it came with one.
        title: its heading.
        text: what it now says.
        spans: ranges of its text, in characters, that are kept or that support what was written.
        pieces: the text's parts: `start` and `end` of what is verbatim, `text` and `support` of what was written.
        score: the retriever's, if it came with one.
    """

    index: int
    id: str | None
    title: str
    text: str
    spans: list[tuple[int, int]]
    pieces: list[dict[str, Any]]
    score: float | None


class ShapeAnswer(BaseModel):
    """What the generator should read instead.

    Attributes:
        id: of this answer.
        model: the recipe that made it.
        text: the shaped context as one text.
        tokens: its tokens.
        tokens_in: those of the passages as they came.
        passages: in reading order.
        answerable: the probability that the passages answer, if the recipe knows.
        set_aside: passages that were taken out visibly, with reasons.
        warnings: what the user should know.
        seconds: of all stages.
        trace: by stage, if it was asked for.
        page: HTML for people, if it was asked for.
    """

    id: str
    model: str
    text: str
    tokens: int
    tokens_in: int
    passages: list[ShapedPassage]
    answerable: float | None
    set_aside: list[dict[str, Any]]
    warnings: list[str]
    seconds: float
    trace: dict[str, Any] | None = None
    page: str | None = None


@router.post("/v1/shape", response_model=ShapeAnswer, responses=FAILURES, summary="Shape passages for a question.")
async def shape(asked: ShapeRequest, request: Request, service: Served) -> Answer:
    """Shape passages for a question: the text that the generator should read, and where each part of it comes from."""
    passages = passages_of(asked.passages, "passages")
    history = [Message(role=turn.role, content=turn.content) for turn in asked.history]
    shaped = await service.shape(asked.model, asked.query, passages, asked.budget, history, asked.timeout)
    note(request, service, shaped, asked.model)
    told = _told(shaped, asked.model or service.settings.recipe)
    told["trace"] = shaped.trace.to_dict() if asked.trace else None
    told["page"] = None
    if asked.page:
        pipeline = service.pipeline(asked.model)
        told["page"] = await service.run(
            lambda left: shaped.to_html(pipeline.attention(shaped, left) if asked.attention else ()), asked.timeout
        )
    return Answer(told)


def _told(shaped: Context, model: str) -> dict[str, Any]:
    return {
        "id": uuid.uuid4().hex,
        "model": model,
        "text": shaped.text,
        "tokens": shaped.tokens,
        "tokens_in": shaped.tokens_in,
        "passages": [
            {
                "index": passage.rank,
                "id": passage.id,
                "title": passage.title,
                "text": passage.text,
                "spans": [[span.start, span.end] for span in passage.spans],
                "pieces": passage.to_dict()["pieces"],
                "score": passage.score,
            }
            for passage in shaped.passages
        ],
        "answerable": shaped.answerable,
        "set_aside": [
            {
                "index": one.passage.rank,
                "id": one.passage.id,
                "reason": one.reason,
                "stage": one.stage,
                "score": one.score,
                "spans": [[span.start, span.end] for span in one.spans],
            }
            for one in shaped.set_aside
        ],
        "warnings": list(shaped.warnings),
        "seconds": shaped.trace.seconds,
    }
