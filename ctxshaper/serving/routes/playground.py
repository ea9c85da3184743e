"""`GET /`: a page to try recipes and budgets in a browser, with the files that it loads."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ctxshaper.serving import playground
from ctxshaper.serving.routes.common import Served

# No contract: it is left out of OpenAPI.
router = APIRouter(include_in_schema=False)

_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-cache"}


@router.get("/")
async def page(service: Served) -> Response:
    """The page."""
    body = playground.page(service.pipelines, service.settings.recipe)
    headers = {**_HEADERS, "content-security-policy": playground.policy()}
    return Response(body, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/playground/{name}")
async def asset(name: str) -> Response:
    """A file that the page loads."""
    kind = playground.ASSETS.get(name)
    if kind is None:
        raise HTTPException(404, f"there is no {name!r:.100}; the page's files are {', '.join(playground.ASSETS)}")
    return Response(playground.asset(name), media_type=kind, headers=_HEADERS)
