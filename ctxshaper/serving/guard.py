"""What stands in front of every route: the key, the size and pace of a body, a line in the log, a count."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from ctxshaper.serving.answers import Answer
from ctxshaper.serving.errors import failed
from ctxshaper.serving.logs import LOGGER
from ctxshaper.serving.metrics import Metrics
from ctxshaper.serving.settings import Settings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# What load balancers ask, and what clients need to write requests.
_OPEN = frozenset({"/healthz", "/readyz", "/openapi.json"})
# The page asks for the key itself; it holds nothing of anybody.
_PAGE = ("/", "/playground/")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _GoneError(Exception):
    """The client went away before its body was here."""


class Guard:
    """ASGI middleware: refuses strangers and what is too large or too slow before anything reads it.

    Args:
        app: what it guards.
        settings: the key and the limits.
        metrics: counts the answers.
    """

    def __init__(self, app: App, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        key = settings.api_key
        self._key = None if key is None else key.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, headers = time.perf_counter(), Headers(scope=scope)
        given = headers.get("x-request-id", "")
        name = given if _ID.fullmatch(given) else uuid.uuid4().hex
        status = 0

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = name
            await send(message)

        try:
            await self._answer(scope, headers, receive, noting)
        except _GoneError:
            status = 499  # as web servers log it; nobody is there to be answered
        except Exception:  # the client still gets an answer, and the log what happened
            LOGGER.exception("a request failed in a way that was not foreseen", extra={"fields": {"id": name}})
            if status:
                raise  # half of an answer is out
            await failed(500, "internal", f"this should not happen; the log says more under the id {name}")(
                scope, receive, noting
            )
        seconds = time.perf_counter() - started
        # Routes have few names, paths have as many as anybody likes.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.answered(route, status, seconds)
        fields = {"id": name, "method": scope["method"], "route": route, "status": status}
        LOGGER.info(
            "request", extra={"fields": {**fields, "ms": round(1e3 * seconds, 2), **scope.get("ctxshaper.log", {})}}
        )

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope, headers)
        if refusal is None:
            try:
                body = await self._body(receive)
            except TimeoutError:
                refusal = failed(408, "too_slow", f"the body took longer than {self._settings.timeout:g} s to arrive")
            else:
                refusal = self._too_large() if body is None else None
        if refusal is not None:
            # Whatever of the body is still under way is not waited for.
            refusal.headers["connection"] = "close"
            await refusal(scope, receive, send)
            return
        assert body is not None  # noqa: S101  # for mypy: a missing body was refused
        await self._app(scope, _replay(body, receive), send)

    def _refusal(self, scope: Scope, headers: Headers) -> Answer | None:
        if self._key is not None and not _open(scope["path"]) and not self._knows_key(headers):
            return failed(
                401,
                "unauthorized",
                "the API key is missing or wrong; send Authorization: Bearer KEY, or x-api-key: KEY",
                {"WWW-Authenticate": "Bearer"},
            )
        if headers.get("content-encoding", "identity") != "identity":
            return failed(415, "unsupported_encoding", "a compressed body is not taken; send it as it is")
        length = headers.get("content-length", "")
        # A longer number is no length that anybody means; `int` would take its time with it.
        if length.isdigit() and (len(length) > 18 or int(length) > self._settings.max_body_bytes):
            return self._too_large()
        return None

    def _knows_key(self, headers: Headers) -> bool:
        assert self._key is not None  # noqa: S101  # for mypy
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = headers.get("x-api-key") or (bearer.strip() if scheme.lower() == "bearer" else "")
        # In a time that does not depend on how much of it is right.
        return hmac.compare_digest(given.encode("latin-1", "replace"), self._key)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body; None where it is larger than it may be."""
        parts, size = [], 0
        async with asyncio.timeout(self._settings.timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneError
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > self._settings.max_body_bytes:
                    return None
                if not message.get("more_body"):
                    return b"".join(parts)

    def _too_large(self) -> Answer:
        most = self._settings.max_body_bytes
        return failed(413, "too_large", f"a request may have {most:,} bytes; send less, or raise max_body_bytes")


def _open(path: str) -> bool:
    return path in _OPEN or path == _PAGE[0] or path.startswith(_PAGE[1])


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body at once, and then what else the server says."""
    sent = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
