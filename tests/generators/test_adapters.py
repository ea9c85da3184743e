"""Frameworks' models as generators, and the fake."""

import asyncio
import contextvars
import copy
import pickle
import threading

import pytest

from ctxshaper import FakeGenerator, Generator
from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.generators import LangChainGenerator, LlamaIndexGenerator
from ctxshaper.generators.adapters import text_of
from ctxshaper.generators.base import ScoringGenerator, as_messages, as_text

TALK = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi {x}"}]


def both(generator, prompt):
    return generator.generate(prompt), asyncio.run(generator.agenerate(prompt))


def test_langchain():
    models = pytest.importorskip("langchain_core.language_models.fake_chat_models")
    generator = LangChainGenerator(models.FakeListChatModel(responses=["one", "two"]))
    assert both(generator, TALK) == ("one", "two")


def test_llama_index():
    llms = pytest.importorskip("llama_index.core.llms")
    generator = LlamaIndexGenerator(llms.MockLLM())
    assert generator.context_window > 0
    assert all("hi {x}" in answer for answer in both(generator, TALK))


def test_a_framework_that_fails():
    class Broken:
        def invoke(self, _):
            raise RuntimeError("no quota")

        async def ainvoke(self, _):
            raise RuntimeError("no quota")

    with pytest.raises(GeneratorError, match="no quota"):
        LangChainGenerator(Broken()).generate("x")
    with pytest.raises(InvalidInputError, match="invoke"):
        LangChainGenerator(object())
    with pytest.raises(InvalidInputError, match="chat"):
        LlamaIndexGenerator(object())


def test_contents():
    assert text_of(None) == ""
    assert text_of(["a", {"type": "text", "text": "b"}, {"type": "image"}]) == "ab"
    with pytest.raises(GeneratorError):
        text_of(7)


def test_fake():
    assert both(FakeGenerator(["a", "b"]), "x") == ("a", "b")
    fake = FakeGenerator({"cat": "meow", "dog": ValueError("woof")})
    assert fake.generate("a cat") == "meow"
    with pytest.raises(ValueError, match="woof"):
        fake.generate("a dog")
    with pytest.raises(GeneratorError, match="keys"):
        fake.generate("a fish")
    assert fake.prompts == ["a cat", "a dog", "a fish"]
    assert FakeGenerator(str.upper).generate(TALK) == "BE BRIEF\n\nHI {X}"
    with pytest.raises(GeneratorError, match="one more"):
        FakeGenerator([]).generate("x")
    assert isinstance(fake, Generator)


@pytest.mark.parametrize("prompt", [[], 7, [{"role": "robot", "content": "x"}], [{"role": "user"}], ["x"]])
def test_bad_prompts(prompt):
    with pytest.raises(InvalidInputError):
        as_messages(prompt)


def test_prompts():
    assert as_messages("x") == [{"role": "user", "content": "x"}]
    assert as_text(TALK) == "be brief\n\nhi {x}"


def test_the_fake_makes_up_log_probabilities():
    fake = FakeGenerator(["one"])
    assert isinstance(fake, ScoringGenerator)
    assert fake.logprobs("The bridge is red.", "The bridge sank") == [-1.0, -1.0, -5.0]
    assert fake.logprobs_batch([(TALK, "brief"), ("x", "")]) == [[-1.0], []]
    # A list's answers are for `generate`.
    assert fake.generate("x") == "one"
    with pytest.raises(GeneratorError, match="quota"):
        FakeGenerator(GeneratorError("no quota")).logprobs("x", "y")


def test_a_batch_goes_side_by_side_in_order_and_keeps_the_callers_context():
    tracing = contextvars.ContextVar("tracing", default="lost")
    together = threading.Barrier(3, timeout=10)

    class Endpoint(Generator):
        def generate(self, prompt):
            together.wait()  # passes only if three calls are under way
            return f"{prompt} {tracing.get()}"

    token = tracing.set("kept")
    try:
        assert Endpoint().generate_batch(["a", "b", "c"]) == ["a kept", "b kept", "c kept"]
    finally:
        tracing.reset(token)
    assert Endpoint().generate_batch([]) == []
    assert FakeGenerator(["one", "two"]).generate_batch(["x", "y"]) == ["one", "two"]


def test_a_batch_stops_at_a_failure():
    asked = []

    class Down(Generator):
        def generate(self, prompt):
            asked.append(prompt)
            raise GeneratorError("down")

    with pytest.raises(GeneratorError, match="down"):
        Down().generate_batch([str(i) for i in range(1000)])
    assert len(asked) < 1000


def test_an_awaited_batch_goes_side_by_side_in_order_and_ends_at_a_failure():
    running, most, done = 0, 0, []

    class Endpoint(Generator):
        def generate(self, prompt):
            raise AssertionError("agenerate is to be awaited")

        async def agenerate(self, prompt):
            nonlocal running, most
            running += 1
            most = max(most, running)
            try:
                await asyncio.sleep(0.01 if prompt != "bad" else 0.005)
            finally:
                running -= 1
            if prompt == "bad":
                raise GeneratorError("down")
            done.append(prompt)
            return prompt.upper()

    prompts = [f"p{i}" for i in range(30)]
    assert asyncio.run(Endpoint().agenerate_batch(prompts)) == [p.upper() for p in prompts]
    assert 1 < most <= 8
    done.clear()
    with pytest.raises(GeneratorError, match="down"):
        asyncio.run(Endpoint().agenerate_batch(["bad", *prompts]))
    assert running == 0
    assert len(done) < 8
    assert asyncio.run(Endpoint().agenerate_batch([])) == []
    assert asyncio.run(FakeGenerator(["one", "two"]).agenerate_batch(["x", "y"])) == ["one", "two"]


def test_the_fake_pickles_and_copies():
    fake = FakeGenerator(["one", "two"], delay=0.001)
    assert fake.generate("x") == "one"
    for same in (pickle.loads(pickle.dumps(fake)), copy.deepcopy(fake)):  # our own bytes
        assert same.prompts == ["x"]
        assert same.generate("y") == "two"
    assert fake.prompts == ["x"]
