"""A running service for tests: a real server on a free port of this machine."""

import threading
import time
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from ctxshaper import FakeReader, Parts
from ctxshaper.serving.app import create_app
from ctxshaper.serving.settings import Settings

SPARSE = {"recipes": {"fast": "fast"}, "recipe": "fast"}


def settings(**given):
    return Settings.load(**(SPARSE | given))


@contextmanager
def serving(told, parts=None):
    """The service as the command starts it, in a thread; gives its URL."""
    app = create_app(told, parts or Parts(reader=FakeReader()))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        for _ in range(3000):
            if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                break
            time.sleep(0.02)
        yield url
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def fake_url():
    """A service that reads with a `FakeReader`."""
    with serving(settings()) as url:
        yield url


@pytest.fixture(scope="session")
def url(reader, embedder):
    """A service with the embedded models."""
    with serving(
        settings(recipes={"qa": "qa", "fast": "fast"}, recipe="qa"), Parts(reader=reader, embedder=embedder)
    ) as it:
        yield it
