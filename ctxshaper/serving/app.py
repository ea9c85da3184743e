"""The service as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import ctxshaper
from ctxshaper.errors import CtxshaperError
from ctxshaper.serving.admission import QueueFullError
from ctxshaper.serving.errors import of_http, of_ours, of_validation
from ctxshaper.serving.guard import Guard
from ctxshaper.serving.routes import ROUTERS
from ctxshaper.serving.service import Service
from ctxshaper.serving.settings import Settings
from ctxshaper.stages.parts import Parts

_ABOUT = (
    "Shapes what a generator reads: prunes, orders and screens retrieved passages, and speaks the contracts of "
    "rerankers (Cohere, Jina), of headroom's /v1/compress and of LiteLLM's generic guardrail."
)


def create_app(settings: Settings | None = None, parts: Parts | None = None) -> FastAPI:
    """The service.

    Args:
        settings: what it is told; of the environment if None.
        parts: the models that its recipes share, such as a `FakeReader` in tests; the settings' if None.

    Raises:
        InvalidInputError: settings or recipes that are not right.
    """
    told = settings or Settings.load()
    service = Service(told, parts)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # Meanwhile the service says that it lives, and that it is not ready.
        loading = asyncio.create_task(service.start())
        yield
        service.ready = False
        loading.cancel()

    app = FastAPI(
        title="ctxshaper",
        version=ctxshaper.__version__,
        description=_ABOUT,
        lifespan=lifespan,
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    for kind in (CtxshaperError, QueueFullError):
        app.add_exception_handler(kind, of_ours)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_middleware(Guard, settings=told, metrics=service.metrics)
    return app
