"""One HTTP request and its answer, bounded in bytes, over any of httpx's asynchronous clients."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import MissingDependencyError

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered.

    Attributes:
        status: the HTTP status.
        headers: the headers.
        body: the decompressed body, or its beginning.
        whole: whether the body is whole; it is not where it was longer than allowed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


class EncodingError(Exception):
    """The body is compressed in a way that was not asked for, or damaged."""


def client(timeout: float) -> httpx.AsyncClient:
    """A client of httpx that shares its TLS settings with all others: to load the certificates takes long.

    Raises:
        MissingDependencyError: httpx is not installed.
    """
    return load_httpx().AsyncClient(timeout=timeout, verify=_tls())  # type: ignore[no-any-return]


def load_httpx() -> Any:
    """The module httpx.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise MissingDependencyError("OpenAIGenerator needs httpx; pip install 'ctxshaper[api]'") from error
    return httpx


async def post(http: httpx.AsyncClient, url: str, content: bytes, headers: Mapping[str, str], most: int) -> Reply:
    """Send JSON, and read at most so many bytes of the answer, counted after decompression.

    A body that would inflate to gigabytes is inflated no further than that.

    Args:
        http: the client.
        url: where to.
        content: the JSON.
        headers: further headers.
        most: bytes to read; what comes behind is not read.

    Raises:
        EncodingError: a body that is compressed otherwise than by gzip or deflate, or damaged.
        httpx.HTTPError: no connection, or a lost one.
    """
    # Answers are short; compressed ones would only be a way to send more than can be held.
    sent = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
    async with http.stream("POST", url, content=content, headers=sent) as response:
        inflate = _inflater(response.headers.get("content-encoding", ""))
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += inflate(chunk, most + 1 - len(body)) if inflate else chunk
            if len(body) > most:
                break
        return Reply(response.status_code, dict(response.headers), bytes(body[:most]), len(body) <= most)


def _inflater(encoding: str) -> Any:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise EncodingError(f"the answer is compressed by {encoding!r:.40}, which was not asked for")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by its header

    def inflate(chunk: bytes, most: int) -> bytes:
        try:
            return inflater.decompress(chunk, most)
        except zlib.error as error:
            raise EncodingError(f"the answer is not valid {encoding}: {error}") from error

    return inflate


@lru_cache(maxsize=1)
def _tls() -> Any:
    return load_httpx().create_ssl_context()
