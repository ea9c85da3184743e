"""What requests of several contracts have in common."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request
from pydantic import BaseModel, Field

from ctxshaper.data import Context, Passage
from ctxshaper.data.files import passage_from_json
from ctxshaper.serving.service import Service

Query = Annotated[str, Field(min_length=1, description="The user's question.")]
BudgetField = Annotated[
    int | float | str | None,
    Field(description='Tokens (500), a share ("30%" or 0.3) or "auto"; the service\'s own if left out.'),
]
ModelField = Annotated[
    str | None, Field(description="A recipe of this service by its name; its usual one if left out.")
]
Texts = Annotated[
    list[str | dict[str, Any]],
    Field(description='Best first: texts, or objects with "text" and, if known, "id", "title", "score", "metadata".'),
]


class ErrorDetail(BaseModel):
    """What went wrong, for programs and for people."""

    type: str
    message: str


class Failure(BaseModel):
    """The form of every error."""

    message: str
    error: ErrorDetail


FAILURES: dict[int | str, dict[str, Any]] = {
    status: {"model": Failure, "description": told}
    for status, told in {
        400: "The request cannot be used as it is.",
        401: "The API key is missing or wrong.",
        404: "No such recipe.",
        413: "The request is too large.",
        415: "A compressed body.",
        422: "A field is missing or of the wrong kind.",
        429: "As many requests wait as may; Retry-After says when to come again.",
        500: "A failure of the service.",
        502: "A generator that a recipe asks did not answer.",
        504: "It took longer than it may.",
    }.items()
}


def service_of(request: Request) -> Service:
    """The service that answers."""
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]


def passages_of(texts: list[str | dict[str, Any]], name: str) -> list[Passage]:
    """The passages that a request holds.

    Raises:
        InvalidInputError: one that is none; the message says which.
    """
    return [passage_from_json(value, f"{name}[{place}]", place) for place, value in enumerate(texts)]


def note(request: Request, service: Service, shaped: Context, recipe: str | None) -> None:
    """Leave a line for the log: numbers, and text only if that was asked for."""
    fields: dict[str, Any] = {
        "recipe": recipe or service.settings.recipe,
        "passages": len({p.rank for p in shaped.passages}),
        "tokens_in": shaped.tokens_in,
        "tokens_out": shaped.tokens,
        "warnings": len(shaped.warnings),
    }
    if service.settings.log_content:
        fields |= {"query": shaped.query, "kept": [p.id for p in shaped.passages], "said": list(shaped.warnings)}
    request.scope["ctxshaper.log"] = fields
