"""What an endpoint may not take of us: memory, time, or more than the request has."""

import gzip
import io
import threading
import time
import tracemalloc

import pytest

from ctxshaper.data import deadline
from ctxshaper.errors import DeadlineError, GeneratorError
from tests.generators.conftest import completion


def bomb(size):
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
        for _ in range(size // 2**20):
            file.write(b" " * 2**20)
    return packed.getvalue()


@pytest.mark.parametrize("status", [200, 400])
def test_a_gzip_bomb_is_not_inflated(endpoint, status):
    generator = endpoint[0]((status, {"Content-Encoding": "gzip"}, bomb(300 * 2**20)), retries=0)
    tracemalloc.start()
    try:
        with pytest.raises(GeneratorError, match=r"longer than|status 400"):
            generator.generate("x")
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_bodies_have_a_limit(endpoint, ask):
    make, _ = endpoint
    with pytest.raises(GeneratorError, match="longer than 8,388,608 bytes"):
        ask(make((200, {}, b" " * (9 * 2**20))))
    assert ask(make((200, {"Content-Encoding": "gzip"}, gzip.compress(completion("ok")[2].encode())))) == "ok"
    for encoding in ("br", "gzip"):
        with pytest.raises(GeneratorError, match="EncodingError"):
            ask(make((200, {"Content-Encoding": encoding}, b"abc"), retries=0))


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_slow_drip_does_not_outlast_the_timeout(endpoint, ask, part):
    def drip(handler):
        try:
            if part == "headers":
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            else:
                handler.send_response(200)
                handler.end_headers()
            for _ in range(100):
                handler.wfile.write(b".")
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass  # the client has gone, as it should

    started = time.monotonic()
    with pytest.raises(GeneratorError, match=r"no whole answer within 0\.4 seconds"):
        ask(endpoint[0](drip, timeout=0.4, retries=0))
    assert time.monotonic() - started < 2


def test_the_requests_deadline_ends_the_call(endpoint, ask):
    started = time.monotonic()
    with deadline.under(deadline.Deadline(0.3)), pytest.raises(DeadlineError, match=r"0\.3 seconds"):
        ask(endpoint[0](5.0, 5.0, timeout=60.0))
    assert time.monotonic() - started < 2


def test_a_cancelled_request_ends_the_call(endpoint, ask):
    request = deadline.Deadline()
    threading.Timer(0.2, request.cancel).start()
    started = time.monotonic()
    with deadline.under(request), pytest.raises(DeadlineError, match="cancelled"):
        ask(endpoint[0](5.0, timeout=60.0))
    assert time.monotonic() - started < 2
