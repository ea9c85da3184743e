"""`POST /v1/rerank`, `/v2/rerank`: documents by relevance, as Cohere, Jina and vLLM spell it, and pruned if wished."""

from __future__ import annotations

import math
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from ctxshaper.data import Context
from ctxshaper.errors import InvalidInputError
from ctxshaper.serving.answers import Answer, StrictRoute
from ctxshaper.serving.routes.common import FAILURES, BudgetField, ModelField, Query, Served, Texts, note, passages_of

router = APIRouter(route_class=StrictRoute, tags=["rerank"])


class RerankRequest(BaseModel):
    """A question and documents. Fields of other servers that are not named here are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": "Who designed the Ember Bridge?",
                    "documents": ["Bananas are rich in potassium.", "Ada Moreau designed the Ember Bridge. It is red."],
                    "top_n": 1,
                    "prune": True,
                }
            ]
        }
    )
    query: Query
    documents: Texts
    model: ModelField = None
    top_n: Annotated[int | None, Field(ge=1, description="How many results; all if left out.")] = None
    return_documents: Annotated[bool, Field(description="Whether results hold their document's text.")] = False
    prune: Annotated[bool, Field(description="Whether results hold what to keep of their document, and where.")] = False
    budget: BudgetField = None


class RerankResult(BaseModel):
    """One document.

    Attributes:
        index: its place in the request.
        relevance_score: 0 to 1. The best document's is the probability that the documents answer at all, where the
            recipe knows it; the others' are smaller by how much less of the evidence they are likely to hold.
        document: its text, if it was asked for.
        pruned_text: what to keep of it, without white space around it, if that was asked for; empty where nothing is.
        spans: where that stands in it, in characters.
    """

    index: int
    relevance_score: float
    document: dict[str, Any] | None = None
    pruned_text: str | None = None
    spans: list[tuple[int, int]] | None = None


class RerankAnswer(BaseModel):
    """Documents by relevance."""

    id: str
    model: str
    results: list[RerankResult]
    meta: dict[str, Any]


@router.post("/v2/rerank", response_model=RerankAnswer, responses=FAILURES, summary="Documents by relevance.")
@router.post("/v1/rerank", response_model=RerankAnswer, responses=FAILURES, summary="Documents by relevance.")
async def rerank(asked: RerankRequest, request: Request, service: Served) -> Answer:
    """Documents by relevance; with `prune`, or a `budget`, also what to keep of each."""
    passages = passages_of(asked.documents, "documents")
    prune = asked.prune or asked.budget is not None
    shaped = await service.shape(asked.model, asked.query, passages, asked.budget if prune else "auto")
    scored = shaped
    if _scores(shaped) is None:
        # All of it fits, so that no unit had to be judged.
        scored = await service.shape(asked.model, asked.query, passages, "auto")
    relevance = _relevance(scored, len(passages), asked.model or service.settings.recipe)
    note(request, service, shaped, asked.model)
    kept = {passage.rank: passage for passage in shaped.passages}
    results = []
    for place in sorted(range(len(passages)), key=lambda place: -relevance[place])[: asked.top_n]:
        result: dict[str, Any] = {"index": place, "relevance_score": relevance[place]}
        if asked.return_documents:
            result["document"] = {"text": passages[place].source}
        if prune:
            left = kept.get(place)
            result["pruned_text"] = left.text.strip() if left else ""
            result["spans"] = [[span.start, span.end] for span in left.spans] if left else []
        results.append(result)
    meta = {
        # Cohere's clients read these two.
        "api_version": {"version": request.url.path[2:3]},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": shaped.tokens_in, "output_tokens": shaped.tokens},
        "answerable": scored.answerable,
        "warnings": list(shaped.warnings),
    }
    return Answer(
        {"id": uuid.uuid4().hex, "model": asked.model or service.settings.recipe, "results": results, "meta": meta}
    )


def _scores(shaped: Context) -> list[tuple[int, float]] | None:
    """By unit, its passage and its score, of the first stage that judged units by one; None where none did."""
    for stage in shaped.trace.stages:
        scores = [(d.passage, d.score) for d in stage.decisions if d.score is not None]
        if scores:
            return scores
    return None


def _relevance(shaped: Context, count: int, recipe: str) -> list[float]:
    """For each passage, its share of the evidence over the best passage's, times whether any answers.

    A unit's score is read as the logarithm of how likely it is evidence, up to a constant: so `EvidenceFilter` means
    it, and for other methods the order is kept.
    """
    scores = _scores(shaped)
    if scores is None:
        if not shaped.tokens_in:
            return [0.0] * count  # nothing but empty documents
        raise InvalidInputError(f"the recipe {recipe!r} gives no scores to rank by; ask for qa or fast as model")
    top = max(score for _, score in scores)
    shares = [0.0] * count
    for place, score in scores:
        shares[place] += math.exp(score - top)
    best = max(shares)
    sure = 1.0 if shaped.answerable is None else shaped.answerable
    return [sure * (share / best) for share in shares]
