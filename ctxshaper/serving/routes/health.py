"""Whether the service lives, whether it is ready, and what it counts."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from ctxshaper.serving.answers import Answer
from ctxshaper.serving.errors import failed
from ctxshaper.serving.routes.common import FAILURES, Served

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process answers.")
async def healthz() -> Answer:
    """The process answers."""
    return Answer({"status": "ok"})


@router.get("/readyz", summary="The models are loaded.", responses={503: FAILURES[500] | {"description": "Not yet."}})
async def readyz(service: Served) -> Answer:
    """The models are loaded, and the service is not about to stop."""
    if not service.ready:
        told = service.failure or "the models are not loaded yet, or the service is stopping; ask again"
        return failed(503, "not_ready", told)
    return Answer({"status": "ready", "models": sorted(service.pipelines)})


@router.get("/metrics", summary="Counters for Prometheus.", responses={401: FAILURES[401]})
async def metrics(service: Served) -> Response:
    """Counters for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
