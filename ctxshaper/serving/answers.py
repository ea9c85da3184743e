"""JSON in and out: strict, and safe for every text."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from ctxshaper.data.json import parse_json


class Answer(Response):
    """JSON with everything beyond ASCII escaped: lone surrogates have no UTF-8."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status_code, headers)

    def render(self, content: Any) -> bytes:
        """See `Response.render`."""
        return json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


class _StrictRequest(Request):
    async def json(self) -> Any:
        return parse_json(await self.body(), "the request's body")


class StrictRoute(APIRoute):
    """A route whose JSON is read by the project's one reader: no NaN, no name twice, no bottomless nesting."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict
