"""Errors as answers: one form that every client of these contracts reads."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ctxshaper.errors import CtxshaperError, DeadlineError, GeneratorError, InvalidInputError
from ctxshaper.serving.admission import QueueFullError
from ctxshaper.serving.answers import Answer
from ctxshaper.serving.logs import LOGGER
from ctxshaper.serving.service import UnknownModelError

# The first that fits counts.
_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (UnknownModelError, 404, "model_not_found"),
    (InvalidInputError, 400, "invalid_request"),
    (DeadlineError, 504, "deadline_exceeded"),
    (QueueFullError, 429, "too_many_requests"),
    (GeneratorError, 502, "generator_failed"),
)
_BY_STATUS = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
# What is wrong with a request is told of its first fields; there may be thousands.
_FIELDS = 5


def failed(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    """The answer of a request that failed.

    Cohere's clients show `message`, those of OpenAI's and headroom's form `error`.

    Args:
        status: of HTTP.
        kind: a name that programs can compare.
        message: what was got, what is allowed, what to do.
        headers: to send along.
    """
    return Answer({"message": message, "error": {"type": kind, "message": message}}, status, headers)


async def of_ours(_: Request, error: Exception) -> Answer:
    """The answer of an error that this library raises on purpose, or of a full queue."""
    for known, status, kind in _STATUS:
        if isinstance(error, known):
            headers = {"Retry-After": str(error.retry_after)} if isinstance(error, QueueFullError) else None
            return failed(status, kind, str(error), headers)
    LOGGER.error("a request failed", exc_info=error)
    return failed(500, "internal", str(error))


async def of_http(_: Request, error: Exception) -> Answer:
    """The answer of what the framework refuses: unknown paths and methods, bodies that are no JSON."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    told = str(error.__cause__ if isinstance(error.__cause__, CtxshaperError) else getattr(error, "detail", error))
    headers = dict(getattr(error, "headers", None) or {})
    return failed(status, _BY_STATUS.get(status, "invalid_request"), told, headers)


async def of_validation(_: Request, error: Exception) -> Answer:
    """The answer of a body whose fields are not what they must be."""
    found: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    told = "; ".join(f"{'.'.join(map(str, one['loc'])):.200}: {one['msg']:.200}" for one in found[:_FIELDS])
    more = f"; and {len(found) - _FIELDS} more" if len(found) > _FIELDS else ""
    return failed(422, "invalid_request", f"{told}{more}")
