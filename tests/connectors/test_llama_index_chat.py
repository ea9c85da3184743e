"""Chat engines and agents of LlamaIndex whose chat a session shapes."""

import copy
import json
import pickle
from itertools import pairwise

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import (
    CacheControl,
    CachePoint,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.workflow import Context, JsonSerializer

from ctxshaper import EvidenceFilter, FakeReader, InvalidInputError, Pipeline
from ctxshaper.connectors.llama_index import ShapedFunctionAgent, ShapedMemory
from ctxshaper.connectors.llama_index.chat import to_messages, to_rows
from ctxshaper.pipelines import Session

TEXT = "Bananas grow in bunches of twelve. The bridge {} was designed by Ada Moreau. Nobody knew why they were late."


def session(**options):
    return Session(Pipeline([EvidenceFilter()], reader=FakeReader(), budget="40%"), **options)


def results(number):
    return json.dumps({"results": [{"text": TEXT.format(f"{number}-{n}")} for n in range(6)]})


def tagged(turn):
    return f"<context>{results(turn)}</context>\n\nWho designed bridge {turn}?"


class Model(MockFunctionCallingLLM):
    """Calls `search` for each question, answers behind a tool's result, and keeps what it was sent."""

    def __init__(self, calls=True):
        super().__init__(response_generator=self._answer, is_chat_model=True)
        self._calls, self._sent = calls, []

    def _answer(self, messages, **kwargs):
        self._sent.append([message.model_dump() for message in messages])
        number = len(self._sent)
        if self._calls and messages[-1].role == "user":
            asked = {"query": f"Who designed bridge {number}?"}
            return ChatMessage(
                role="assistant",
                blocks=[ToolCallBlock(tool_call_id=f"c{number}", tool_name="search", tool_kwargs=asked)],
            )
        return ChatMessage(role="assistant", content=f"Ada Moreau did ({number}).")


def search(query: str) -> str:
    """Searches."""
    return results(query.removeprefix("Who designed bridge ").removesuffix("?"))


def grows(sent):
    return all(after[: len(before)] == before for before, after in pairwise(sent))


def told(sent):
    return [block["text"] for message in sent for block in message["blocks"] if "text" in block]


@pytest.mark.parametrize("inner", [Memory, ChatMemoryBuffer])
def test_a_chat_engine_sends_what_it_sent_before_byte_for_byte(inner):
    llm, memory = Model(calls=False), ShapedMemory(memory=inner.from_defaults(token_limit=10**6), session=session())
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")
    for turn in range(4):
        engine.chat(tagged(turn))
    assert len(llm._sent) == 4
    assert grows(llm._sent)
    assert llm._sent[-1][0]["role"] == "system"
    questions = [message for message in llm._sent[-1] if message["role"] == "user"]
    for turn, sent in enumerate(told(questions)):
        assert "Bananas" not in sent
        assert "Ada Moreau" in sent
        assert sent.endswith(f"</context>\n\nWho designed bridge {turn}?")
    stored = [message.content for message in engine.chat_history if message.role == "user"]
    assert stored == [tagged(turn) for turn in range(4)]  # the memory keeps what was asked


async def test_the_async_twin_sends_the_same():
    sent = []
    for asynchronous in (False, True):
        llm = Model(calls=False)
        memory = ShapedMemory.from_defaults(session=session(), token_limit=10**6)
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory)
        for turn in range(2):
            await engine.achat(tagged(turn)) if asynchronous else engine.chat(tagged(turn))
        sent.append(llm._sent)
        assert [m.content for m in await memory.aget_all()] == [m.content for m in memory.get_all()]
    assert sent[0] == sent[1]
    await memory.areset()
    assert memory.get() == []
    await memory.aset([ChatMessage("a")])
    assert [m.content for m in await memory.aget()] == ["a"]
    memory.set([ChatMessage("b")])
    memory.put_messages([ChatMessage("c")])
    assert [m.content for m in memory.get()] == ["b", "c"]
    memory.reset()
    assert await memory.aget_all() == []


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_agents_calls_begin_with_the_bytes_of_the_one_before(streaming):
    llm, memory = Model(), Memory.from_defaults(token_limit=10**6)
    agent = ShapedFunctionAgent(
        tools=[search], llm=llm, session=session(), system_prompt="Be brief.", streaming=streaming
    )
    for turn in range(3):
        answer = await agent.run(f"Who designed bridge {turn}?", memory=memory)
        assert str(answer).startswith("Ada Moreau did")
    assert len(llm._sent) == 6
    assert grows(llm._sent)
    stored = await memory.aget_all()
    assert [message.role.value for message in stored] == ["user", "assistant", "tool", "assistant"] * 3
    tools = [message for message in llm._sent[-1] if message["role"] == "tool"]
    calls = [message for message in llm._sent[-1] if message["role"] == "assistant"][::2]
    for original, shaped, call in zip(stored[2::4], tools, calls, strict=True):
        assert "Bananas" in original.content
        (text,) = told([shaped])
        assert "Bananas" not in text
        assert json.loads(text)["results"]
        assert shaped["additional_kwargs"]["tool_call_id"] == call["blocks"][0]["tool_call_id"]
        assert shaped["additional_kwargs"] == original.additional_kwargs


async def test_an_agent_goes_on_in_its_context_and_sets_rounds_aside():
    llm, memory = Model(), Memory.from_defaults(token_limit=10**6)
    agent = ShapedFunctionAgent(tools=[search], llm=llm, session=session(max_tokens=350), system_prompt="Be brief.")
    context = Context(agent)
    for turn in range(5):
        await agent.run(f"Who designed bridge {turn}?", ctx=context, memory=memory)
    assert "are set aside; hash=" in told(llm._sent[-1])[1]
    assert [message["role"] for message in llm._sent[-1][:3]] == ["system", "user", "assistant"]
    # The framework writes a context down without its memory; the session stays with the agent.
    with pytest.warns(Warning, match="key: memory"):
        written = json.dumps(context.to_dict(serializer=JsonSerializer()))
    again = Context.from_dict(agent, json.loads(written), serializer=JsonSerializer())
    await agent.run("Who designed bridge 6?", ctx=again, memory=memory)
    assert len(await memory.aget_all()) == 24
    assert "are set aside; hash=" in told(llm._sent[-1])[1]


async def test_a_step_that_fails_leaves_the_run_as_it_was():
    class Broken(Model):
        def _answer(self, messages, **kwargs):
            if messages[-1].role == "tool":
                raise OSError("away")
            return super()._answer(messages, **kwargs)

    agent = ShapedFunctionAgent(tools=[search], llm=Broken(), session=session())
    context = Context(agent)
    with pytest.raises(Exception, match="away"):
        await agent.run("Who designed bridge 1?", ctx=context)
    left = await context.store.get(agent.scratchpad_key)
    assert [message.role.value for message in left] == ["assistant", "tool"]
    assert "Bananas" in left[1].content


async def test_agents_shape_by_themselves():
    shapes = session()
    memory = ShapedMemory.from_defaults(session=shapes)
    with pytest.raises(Exception, match="shapes by itself"):
        await ShapedFunctionAgent(tools=[search], llm=Model(), session=shapes).run("Who?", memory=memory)
    # The plain agent with the memory: results of the present run are not shaped, those of earlier ones are.
    llm = Model()
    agent = FunctionAgent(tools=[search], llm=llm)
    for turn in range(2):
        await agent.run(f"Who designed bridge {turn}?", memory=memory)
    first, second = told([message for message in llm._sent[-1] if message["role"] == "tool"])
    assert "Bananas" not in first
    assert "Bananas" in second


def test_messages_come_back_as_they_were():
    image = ImageBlock(image=b"iVBORw0KGgo=", image_mimetype="image/png")
    call = ToolCallBlock(tool_call_id="1", tool_name="search", tool_kwargs={"query": "Who designed it?"})
    messages = [
        ChatMessage(role="system", content=results(0)),
        ChatMessage(role="user", blocks=[TextBlock(text="Who?"), image], additional_kwargs={"a": 1}),
        ChatMessage(role="assistant", blocks=[ThinkingBlock(content="hm"), TextBlock(text="a"), call]),
        ChatMessage(role="tool", blocks=[TextBlock(text=results(1)), image], additional_kwargs={"tool_call_id": "1"}),
        ChatMessage(role="chatbot", content=results(2)),
        ChatMessage(
            role="user", blocks=[TextBlock(text=tagged(3)), CachePoint(cache_control=CacheControl(type="ephemeral"))]
        ),
        ChatMessage(role="user", blocks=[]),
    ]
    before = copy.deepcopy(messages)
    rows = to_rows(messages)
    assert [row["role"] for row in rows] == ["system", "user", "assistant", "tool", "assistant", "user", "user"]
    assert all(a is b for a, b in zip(to_messages(messages, rows), messages, strict=True))
    shaped = to_messages(messages, session().shape(rows).messages)
    assert [n for n, (a, b) in enumerate(zip(shaped, messages, strict=True)) if a is not b] == [3]
    assert "Bananas" not in shaped[3].blocks[0].text
    assert shaped[3].blocks[1] is image
    assert messages == before


def test_a_call_in_openais_form_asks_its_question():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"query": "Why late?"}'}}]
    messages = [
        ChatMessage("Tell me about bananas."),
        ChatMessage(role="assistant", additional_kwargs={"tool_calls": calls}),
        ChatMessage(results(0), role="tool", additional_kwargs={"tool_call_id": "1"}),
    ]
    assert session().shape(to_rows(messages)).items[0].context.query == "Why late?"


def test_it_is_written_down_without_its_parts():
    memory = ShapedMemory.from_defaults(session=session(), token_limit=1000)
    data = memory.to_dict()
    assert data == {"class_name": "ShapedMemory"}
    again = ShapedMemory.from_dict(data, memory=memory.memory, session=memory.session)
    assert again.memory is memory.memory
    assert again.session is memory.session
    with pytest.raises(ValueError, match=r"session must be a ctxshaper.pipelines.Session, but got None"):
        ShapedMemory.from_dict(data, memory=memory.memory)
    with pytest.raises(ValueError, match="memory"):
        ShapedMemory.from_dict(data, session=memory.session)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda memory: pickle.loads(pickle.dumps(memory))])
def test_a_copy_sends_the_same_and_keeps_the_options(copied):
    memory = ShapedMemory(
        memory=ChatMemoryBuffer.from_defaults(token_limit=10**6), session=session(markers=True, max_tokens=900)
    )
    memory.put(ChatMessage(tagged(0)))
    again = copied(memory)
    assert again.session is not memory.session
    assert again.get() == memory.get()
    assert "[shortened; hash=" in again.get()[0].content
    assert again.session._limit.max_tokens == 900


def test_what_is_no_session_is_refused():
    with pytest.raises(ValueError, match="session must be"):
        ShapedMemory(memory=Memory.from_defaults(), session="fast")
    with pytest.raises(ValueError, match="session must be"):
        ShapedFunctionAgent(tools=[search], llm=Model())
    with pytest.raises(InvalidInputError, match=r"got both: \['token_limit'\]"):
        ShapedMemory.from_defaults(session=session(), memory=Memory.from_defaults(), token_limit=3)
