"""An endpoint that misbehaves in every way we know; each ends in an answer or one clear error."""

import asyncio
import base64
import copy
import gzip
import io
import json
import logging
import pickle
import threading
import time
import traceback
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ctxshaper.data import deadline
from ctxshaper.errors import DeadlineError, GeneratorError, InvalidInputError
from ctxshaper.generators import OpenAIGenerator, openai
from ctxshaper.generators.redaction import Redactor


def completion(text):
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@pytest.fixture
def endpoint(monkeypatch):
    """Plays (status, headers, body), seconds to hang, or functions of the handler; yields a maker and what it saw."""
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
            if callable(step):
                step(self)
                return
            status, headers, text = step
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text if isinstance(text, bytes) else text.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def make(*steps, **options):
        script[:] = steps
        options = {"model": "m", "timeout": 2.0, "retries": 2, "api_key_env": "CTXSHAPER_TEST_KEY", **options}
        login = options.pop("login", "")
        return OpenAIGenerator(base_url=f"http://{login}127.0.0.1:{server.server_port}/v1/", **options)

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


KEY = 'sk-proj-Zq7+Wx/9_kT&4LmPv"8bRn2'
# No eight characters of the key may stand in a row in what is shown, in none of these spellings.
SPELLINGS = {
    "plain": KEY,
    "upper case": KEY.upper(),
    "in a URL": "Zq7%2BWx%2F9_kT%264LmPv%228bRn2",
    "in JSON": json.dumps(KEY),
    "in HTML": KEY.replace("&", "&amp;").replace('"', "&quot;"),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of the header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "base64 of a login": base64.urlsafe_b64encode(f"u:{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "the first part": KEY[:14],
    "the last part": KEY[-14:],
}


def hides(shown, secret):
    return not any(secret[i : i + 8] in shown for i in range(len(secret) - 7))


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("form", ["status", "not a completion", "refusal"])
def test_an_echoed_key_never_shows(endpoint, monkeypatch, spelling, form):
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", KEY)
    refusal = json.dumps({"choices": [{"message": {"refusal": f"not for {spelling}"}}]})
    step = {
        "status": (403, {}, f"no: {spelling} !"),
        "not a completion": (200, {}, spelling),
        "refusal": (200, {}, refusal),
    }
    with pytest.raises(GeneratorError) as caught:
        endpoint[0](step[form]).generate("x")
    shown = "".join(traceback.format_exception(caught.value))
    assert "***" in str(caught.value)
    # First and last characters of base64 hold what stands around the key.
    assert hides(shown, spelling[10:-3])
    assert hides(shown, KEY)


@pytest.mark.parametrize("before", range(280, 300, 3))
def test_a_key_is_hidden_before_an_errors_body_is_cut(endpoint, monkeypatch, before):
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", KEY)
    with pytest.raises(GeneratorError) as caught:
        endpoint[0]((403, {}, "." * before + KEY)).generate("x")
    assert KEY[:4] not in str(caught.value)


def test_a_body_that_the_server_cut_in_the_midst_of_the_key():
    hide = Redactor([KEY])
    assert [hide(f"invalid: {KEY[:n]}") for n in range(4, len(KEY) + 1)] == ["invalid: ***"] * (len(KEY) - 3)
    assert Redactor(["x"])("x is no word of extra") == "*** is no word of extra"
    assert Redactor([""])("nothing to hide") == "nothing to hide"


@pytest.mark.parametrize("key", ["sk-one\nsk-two", "sk-one two", "sk-sch\u00f6n", "sk-\x00null"])
def test_a_key_that_cannot_be_sent_is_refused_without_showing_it(endpoint, ask, monkeypatch, key):
    make, seen = endpoint
    monkeypatch.setattr(openai.os, "environ", {"CTXSHAPER_TEST_KEY": key})
    with pytest.raises(GeneratorError, match="CTXSHAPER_TEST_KEY holds a line break") as caught:
        ask(make())
    assert "sk-" not in "".join(traceback.format_exception(caught.value))
    assert not seen


def test_a_line_break_behind_a_key_is_not_sent(endpoint, monkeypatch):
    make, seen = endpoint
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", "sk-secret\n")
    assert make(completion("ok")).generate("x") == "ok"
    assert seen[0][1] == "Bearer sk-secret"


def test_a_login_in_the_url_is_sent_and_never_shown(endpoint, ask, monkeypatch, caplog):
    make, seen = endpoint
    monkeypatch.delenv("CTXSHAPER_TEST_KEY", raising=False)
    caplog.set_level(logging.DEBUG)
    echo = base64.b64encode(b"me:pass/word1").decode()
    generator = make((403, {}, f"pass/word1 pass%2Fword1 {echo}"), login="me:pass%2Fword1@", retries=0)
    with pytest.raises(GeneratorError, match=r"127\.0\.0\.1") as caught:
        ask(generator)
    assert seen[0][1] == f"Basic {echo}"
    shown = repr(generator) + "".join(traceback.format_exception(caught.value)) + caplog.text
    assert not any(secret in shown for secret in ("word1", echo))
    gone = OpenAIGenerator(model="m", base_url="http://me:password1@127.0.0.1:9", retries=0)
    with pytest.raises(GeneratorError, match="ConnectError") as caught:
        ask(gone)
    assert "password1" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url", ["me:pass@host/v1", "ftp://me:pass@host", "http://me:pass@", "http://h/v1?key=pass", "http://me:pass@h:x/"]
)
def test_a_bad_url_is_refused_without_showing_what_may_be_secret(url):
    with pytest.raises(InvalidInputError, match="base_url") as caught:
        OpenAIGenerator(model="m", base_url=url)
    assert "pass@" not in str(caught.value)
    assert "key=" not in str(caught.value)


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


@pytest.mark.parametrize(
    "body", ["[" * 100_000, '{"choices": [{"message": {"content": 1' + "0" * 5000 + "}}]}", b"\xff\xfe", b"\x80abc"]
)
def test_broken_json_is_one_kind_of_error(endpoint, ask, body):
    with pytest.raises(GeneratorError, match="not a chat completion"):
        ask(endpoint[0]((200, {}, body)))


def test_lone_surrogates_in_a_prompt_are_replaced(endpoint, ask):
    make, seen = endpoint
    assert ask(make(completion("ok")), "a \ud800 b") == "ok"
    assert seen[0][2]["messages"][0]["content"] == "a \ufffd b"


def test_a_prompt_that_is_no_json():
    with pytest.raises(InvalidInputError, match="JSON"):
        OpenAIGenerator(model="m").generate([{"role": "user", "content": "x", "name": object()}])


def test_it_is_called_from_within_an_event_loop_too(endpoint):
    async def inside(generator):
        return generator.generate("x")

    assert asyncio.run(inside(endpoint[0](completion("ok")))) == "ok"


def test_a_batch_keeps_order_and_one_failure_ends_it(endpoint):
    make, seen = endpoint

    def echo(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(completion(seen[-1][2]["messages"][0]["content"])[2].encode())

    generator = make(*[echo] * 3)
    assert [generator.generate(prompt) for prompt in "abc"] == ["a", "b", "c"]
    assert make(*[completion("same")] * 20).generate_batch([str(i) for i in range(20)]) == ["same"] * 20
    with pytest.raises(GeneratorError, match="status 400"):
        asyncio.run(make((400, {}, "no"), *[5.0] * 7, *[completion("x")] * 40).agenerate_batch(["p"] * 40))
    assert len(seen) <= 3 + 20 + 8


def test_it_pickles_and_copies(endpoint):
    generator = endpoint[0](completion("ok"))
    assert pickle.loads(pickle.dumps(generator)) == copy.deepcopy(generator) == generator  # our own bytes


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 11, "completion_tokens": 3}, (11, 3)),
        ({"prompt_tokens": 11}, (11, None)),
        ({"prompt_tokens": True, "completion_tokens": -1}, (None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": "3"}, (None, None)),
        ([], (None, None)),
        (None, (None, None)),
    ],
)
def test_a_call_is_a_span_with_the_endpoints_own_counts(endpoint, ask, spans, monkeypatch, usage, counts):
    make, _ = endpoint
    monkeypatch.setenv("CTXSHAPER_TEST_KEY", "sk-secret")
    reply = {"choices": [{"message": {"content": "Odo"}}], "usage": usage}
    assert ask(make((200, {}, json.dumps(reply)), login="me:pass@")) == "Odo"
    (span,) = spans.get_finished_spans()
    found = span.attributes
    assert span.name == "chat m"
    assert (found.get("gen_ai.usage.input_tokens"), found.get("gen_ai.usage.output_tokens")) == counts
    assert (found["gen_ai.provider.name"], found["server.address"]) == ("openai", "127.0.0.1")
    for hidden in ("sk-secret", "pass", "hello", "Odo"):
        assert hidden not in span.to_json()


def test_a_call_that_fails_quotes_nothing_in_its_span(endpoint, ask, spans):
    make, _ = endpoint
    with pytest.raises(GeneratorError, match="the user asked"):
        ask(make((400, {}, "the user asked something")))
    (span,) = spans.get_finished_spans()
    assert span.status.description == "GeneratorError"
    assert "the user asked" not in span.to_json()
