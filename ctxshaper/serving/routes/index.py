"""`POST /v1/index`: reads passages ahead of time, so that the first question about them finds them read."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from ctxshaper.data.deadline import Deadline, under
from ctxshaper.reading.reading import Remembered
from ctxshaper.serving.answers import Answer, StrictRoute
from ctxshaper.serving.routes.common import FAILURES, ModelField, Served, Texts, passages_of

router = APIRouter(route_class=StrictRoute, tags=["ctxshaper"])


class IndexRequest(BaseModel):
    """Passages to remember."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"passages": [{"id": "a", "text": "The Ember Bridge was opened in 1931."}]}]}
    )
    passages: Texts
    model: ModelField = None


class IndexAnswer(BaseModel):
    """What it took.

    Attributes:
        passages: how many have text.
        known: those of them that had been read before, or say the same as another.
        tokens: of all of them.
        read_tokens: those that had to be read for it.
    """

    passages: int
    known: int
    tokens: int
    read_tokens: int


@router.post("/v1/index", response_model=IndexAnswer, responses=FAILURES, summary="Remember passages.")
async def index(asked: IndexRequest, service: Served) -> Answer:
    """Read passages, so that the first question finds them read; with a store, in every later process too."""
    pipeline, passages = service.pipeline(asked.model), passages_of(asked.passages, "passages")
    service.check("", passages)

    def work(seconds: float) -> Remembered:
        with under(Deadline(seconds)):
            return pipeline.remember(passages)

    done = await service.run(work)
    return Answer(
        {"passages": done.passages, "known": done.known, "tokens": done.tokens, "read_tokens": done.read_tokens}
    )
