"""What strangers and attackers send, and what they are told."""

import asyncio
import contextlib
import gzip
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from ctxshaper import FakeReader, Parts
from tests.serving.conftest import serving, settings

KEY = "a key of ours"
BODY = {"query": "bridge", "passages": ["A bridge. A boat."]}


@pytest.fixture(scope="module")
def guarded():
    limits = {"max_body_bytes": 20_000, "max_passages": 5, "max_characters": 1_000, "timeout": 2.0}
    with serving(settings(api_key=KEY, **limits)) as url:
        yield url


def ask(url, content, path="/v1/shape", **headers):
    sent = {"content-type": "application/json", "x-api-key": KEY} | {k.replace("_", "-"): v for k, v in headers.items()}
    return httpx.post(f"{url}{path}", content=content, headers=sent, timeout=60)


@pytest.mark.parametrize("path", ["/v1/shape", "/v1/rerank", "/v2/rerank", "/v1/index", "/metrics", "/nowhere"])
@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": "another"}, {"authorization": "Bearer x"}, {"authorization": f"Basic {KEY}"}]
)
def test_without_the_key_nothing_is_said(guarded, path, headers):
    answer = httpx.post(f"{guarded}{path}", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert KEY not in answer.text


@pytest.mark.parametrize("headers", [{"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}])
def test_the_key_opens(guarded, headers):
    assert httpx.post(f"{guarded}/v1/shape", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_balancers_need_no_key(guarded, path):
    assert httpx.get(f"{guarded}{path}").status_code == 200


@pytest.mark.parametrize(
    ("content", "headers", "status", "told"),
    [
        (b"x" * 20_001, {}, 413, "20,000 bytes"),
        (gzip.compress(json.dumps(BODY).encode(), mtime=0), {"content_encoding": "gzip"}, 415, "compressed"),
        (b"", {}, 422, "body"),
        (b"{", {}, 400, "not JSON"),
        (b'{"query": NaN}', {}, 400, "NaN"),
        (b'{"query": 1e999}', {}, 400, "1e999"),
        (b'{"query": "a", "query": "b"}', {}, 400, "twice"),
        (b"\xff\xfe", {}, 400, "UTF-8"),
        (b"[" * 19_000, {}, 400, "nested"),
        (b'{"query": "a", "passages": ' + b"[" * 200 + b"]" * 200 + b"}", {}, 400, "nested"),
        (b'{"query": "a", "passages": ["b"]}', {"content_type": "text/plain"}, 422, "body"),
        (json.dumps(BODY | {"passages": ["a"] * 6}).encode(), {}, 400, "5 passages"),
        (json.dumps(BODY | {"passages": ["a" * 1001]}).encode(), {}, 400, "1,000 characters"),
        (b'{"query": "\\ud800", "passages": ["b"]}', {}, 422, "query"),
    ],
)
def test_what_cannot_be_used_is_refused(guarded, content, headers, status, told):
    answer = ask(guarded, content, **headers)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["message"]


def test_unknown_paths_and_methods(guarded):
    assert ask(guarded, b"{}", "/v1/nothing").status_code == 404
    assert httpx.put(f"{guarded}/v1/shape", json={}, headers={"x-api-key": KEY}).json()["error"]["type"] == (
        "method_not_allowed"
    )


def raw(url, sent, wait=10.0):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as connection:
        connection.sendall(sent)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


HEAD = f"POST /v1/shape HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n"


def test_a_length_that_is_a_lie_is_refused_before_it_is_read(guarded):
    said = raw(guarded, f"{HEAD}content-length: 99999999999\r\n\r\n".encode())
    assert b" 413 " in said.split(b"\r\n")[0]


def test_a_body_that_drips_is_given_up(guarded):
    started = time.perf_counter()
    said = raw(guarded, f"{HEAD}content-length: 5000\r\n\r\n{{".encode())
    assert b" 408 " in said.split(b"\r\n")[0]
    assert 1.5 < time.perf_counter() - started < 9


def test_a_chunked_body_is_counted_as_it_comes(guarded):
    chunk = b"4000\r\n" + b"a" * 0x4000 + b"\r\n"
    said = raw(guarded, f"{HEAD}transfer-encoding: chunked\r\n\r\n".encode() + chunk * 3)
    assert b" 413 " in said.split(b"\r\n")[0]


@pytest.mark.parametrize("sent", [b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST \r\n\r\n"])
def test_what_is_no_http_harms_nobody(guarded, sent):
    raw(guarded, sent)
    assert httpx.get(f"{guarded}/healthz").status_code == 200


def test_endless_headers_are_refused(guarded):
    said = b""
    with contextlib.suppress(ConnectionError):  # the connection is closed with most of them unread
        said = raw(guarded, HEAD.encode() + b"x-long: " + b"a" * 5_000_000 + b"\r\n\r\n")
    assert not said or b" 400 " in said.split(b"\r\n")[0]
    assert httpx.get(f"{guarded}/healthz").status_code == 200


def test_a_requests_name_comes_back_and_cannot_forge_a_header(guarded):
    assert ask(guarded, json.dumps(BODY), x_request_id="abc-1").headers["x-request-id"] == "abc-1"
    assert ask(guarded, json.dumps(BODY), x_request_id="a b\tc").headers["x-request-id"] != "a b\tc"


class SlowReader(FakeReader):
    """Reads when it is let."""

    def __init__(self):
        super().__init__()
        self.go, self.asked = threading.Event(), threading.Semaphore(0)

    def read(self, query, passages):
        if query == "bridge":  # and not the service's own first question
            self.asked.release()
            assert self.go.wait(30)
        return super().read(query, passages)


def test_beyond_its_capacity_a_service_says_when_to_come_again():
    reader = SlowReader()
    with serving(settings(concurrency=2, queue=1), Parts(reader=reader)) as url, ThreadPoolExecutor(8) as pool:
        body = BODY | {"budget": "auto"}
        jobs = [pool.submit(httpx.post, f"{url}/v1/shape", json=body, timeout=30) for _ in range(2)]
        assert all(reader.asked.acquire(timeout=30) for _ in jobs)
        jobs.append(pool.submit(httpx.post, f"{url}/v1/shape", json=body, timeout=30))
        until = time.monotonic() + 20
        while "ctxshaper_queue 1.0" not in httpx.get(f"{url}/metrics").text:
            assert time.monotonic() < until
        refused = httpx.post(f"{url}/v1/shape", json=body)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert httpx.get(f"{url}/healthz").status_code == 200
        reader.go.set()
        assert [job.result().status_code for job in jobs] == [200] * 3
        assert httpx.post(f"{url}/v1/shape", json=body).status_code == 200


def test_a_request_whose_time_is_over_in_the_queue_is_told_so():
    reader = SlowReader()
    with serving(settings(concurrency=1, queue=5), Parts(reader=reader)) as url, ThreadPoolExecutor(8) as pool:
        body = BODY | {"budget": "auto"}
        first = pool.submit(httpx.post, f"{url}/v1/shape", json=body, timeout=30)
        assert reader.asked.acquire(timeout=30)
        late = httpx.post(f"{url}/v1/shape", json=body | {"timeout": 0.2}, timeout=30)
        assert late.status_code == 504
        assert "waited" in late.json()["message"]
        reader.go.set()
        assert first.result().status_code == 200


def test_a_client_that_leaves_in_the_middle_of_its_body_is_let_go(guarded):
    host, port = guarded.removeprefix("http://").split(":")

    async def leave():
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{HEAD}content-length: 500\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()

    asyncio.run(leave())
    until = time.monotonic() + 10
    while 'status="499"' not in httpx.get(f"{guarded}/metrics", headers={"x-api-key": KEY}).text:
        assert time.monotonic() < until
        time.sleep(0.02)
