"""An endpoint that misbehaves; each answer ends in a text or one clear error."""

import asyncio
import copy
import json
import pickle

import pytest

from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.generators import OpenAIGenerator, openai
from tests.generators.conftest import completion


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
