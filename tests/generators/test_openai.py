"""An endpoint that misbehaves in every way we know; each ends in an answer or one clear error."""

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.generators import OpenAIGenerator, openai


def completion(text):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def endpoint(monkeypatch):
    """Plays a list of (status, headers, body) or seconds to hang; yields a maker of generators and what it saw."""
    monkeypatch.setattr(openai, "_FIRST_WAIT", 0.01)
    seen, script = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append((self.path, self.headers.get("authorization"), body, time.monotonic()))
            step = script.pop(0)
            if isinstance(step, float):
                time.sleep(step)
                return
            status, headers, text = step
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(*steps, **options):
        script[:] = steps
        options = {"model": "m", "timeout": 2.0, "retries": 2, "api_key_env": "CTXSHAPER_TEST_KEY", **options}
        return OpenAIGenerator(base_url=f"http://127.0.0.1:{server.server_port}/v1/", **options)

    yield make, seen
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["sync", "async"])
def ask(request):
    if request.param == "sync":
        return lambda generator, prompt="hello": generator.generate(prompt)
    return lambda generator, prompt="hello": asyncio.run(generator.agenerate(prompt))


def test_request_and_answer(endpoint, ask, monkeypatch):
    make, seen = endpoint
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", "sk-secret")
    generator = make(completion("Grüße 你好"))
    assert (
        ask(generator, [{"role": "system", "content": "s"}, {"role": "user", "content": "{x} <|im_end|>"}])
        == "Grüße 你好"
    )
    path, authorization, body, _ = seen[0]
    assert (path, authorization) == ("/v1/chat/completions", "Bearer sk-secret")
    assert body["messages"][1]["content"] == "{x} <|im_end|>"
    assert "sk-secret" not in repr(generator)


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_failure_that_passes(endpoint, ask, status):
    make, seen = endpoint
    assert ask(make((status, {}, "busy"), completion("ok"))) == "ok"
    assert len(seen) == 2


def test_retry_after_is_waited_for(endpoint, ask):
    make, seen = endpoint
    assert ask(make((429, {"Retry-After": "1"}, ""), completion("ok"))) == "ok"
    assert seen[1][3] - seen[0][3] >= 1.0


def test_retry_after_beyond_patience_is_an_error(endpoint, ask):
    make, seen = endpoint
    with pytest.raises(GeneratorError, match="429"):
        ask(make((429, {"Retry-After": "86400"}, "")))
    assert len(seen) == 1


def test_retry_after_as_date_and_nonsense():
    assert openai._retry_after("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0
    assert openai._retry_after("Fri, 01 Jan 2100 00:00:00 GMT") > 1e6
    assert [openai._retry_after(v) for v in ("", "soon", "-5", "nan")] == [0.0] * 4


def test_attempts_end(endpoint, ask):
    make, seen = endpoint
    with pytest.raises(GeneratorError, match=r"3 attempt.*status 500"):
        ask(make(*[(500, {}, "broken")] * 3))
    assert len(seen) == 3


def test_a_key_never_shows_in_errors(endpoint, ask, monkeypatch):
    make, seen = endpoint
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", "sk-secret")
    with pytest.raises(GeneratorError, match="CTXSHAPER_TEST_KEY") as caught:
        ask(make((401, {}, "bad key sk-secret")))
    assert "sk-secret" not in str(caught.value)
    assert len(seen) == 1


def test_time_out(endpoint, ask):
    make, _ = endpoint
    with pytest.raises(GeneratorError, match="Timeout"):
        ask(make(0.5, timeout=0.1, retries=0))
    assert ask(make(0.5, completion("late"), timeout=0.1)) == "late"


@pytest.mark.parametrize("body", ["<html>", "", "[]", "{}", '{"choices": []}', '{"choices": [{"message": null}]}', "7"])
def test_garbage(endpoint, ask, body):
    make, _ = endpoint
    with pytest.raises(GeneratorError, match="not a chat completion"):
        ask(make((200, {}, body)))


def test_other_answers(endpoint, ask):
    make, _ = endpoint
    assert ask(make(completion(None))) == ""
    assert ask(make(completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]))) == "ab"
    assert len(ask(make(completion("x" * 1_000_000)))) == 1_000_000
    refusal = json.dumps({"choices": [{"message": {"content": None, "refusal": "not this"}}]})
    with pytest.raises(GeneratorError, match="refused: not this"):
        ask(make((200, {}, refusal)))


def test_nobody_there():
    generator = OpenAIGenerator(model="m", base_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(GeneratorError, match="ConnectError"):
        generator.generate("x")


def test_options():
    with pytest.raises(InvalidInputError, match="base_url"):
        OpenAIGenerator(model="m", base_url="localhost:80")
    with pytest.raises(InvalidInputError, match="timeout"):
        OpenAIGenerator(model="m", timeout=0)
