"""Before its models are loaded a service lives but is not ready, and says why where they cannot be."""

import time

import httpx
import pytest

from ctxshaper import FakeReader, ModelError, Parts
from ctxshaper.serving import service
from tests.serving.conftest import serving, settings


class Late(FakeReader):
    """Cannot be loaded at first."""

    failing = True

    def read(self, query, passages):
        if self.failing:
            raise ModelError("there is no such model; name another")
        return super().read(query, passages)


def test_it_says_why_it_is_not_ready_and_tries_again(monkeypatch):
    monkeypatch.setattr(service, "_AGAIN", 0.05)
    reader = Late()
    with serving(settings(), Parts(reader=reader), wait=False) as url:
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
        until = time.monotonic() + 20
        while "no such model" not in (answer := httpx.get(f"{url}/readyz")).text:
            assert time.monotonic() < until
        assert answer.status_code == 503
        failed = httpx.post(f"{url}/v1/shape", json={"query": "q", "passages": ["a. b."], "budget": "auto"})
        assert (failed.status_code, failed.json()["error"]["type"]) == (500, "internal")
        reader.failing = False
        while httpx.get(f"{url}/readyz").status_code != 200:
            assert time.monotonic() < until
        assert httpx.get(f"{url}/readyz").json()["models"] == ["fast"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_it_is_ready(fake_url, path):
    assert httpx.get(f"{fake_url}{path}").status_code == 200
