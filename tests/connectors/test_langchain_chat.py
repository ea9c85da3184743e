"""An agent of langchain 1.x whose chat a session shapes."""

import json
from itertools import pairwise

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool

from ctxshaper import EvidenceFilter, FakeReader, InvalidInputError, Pipeline
from ctxshaper.connectors.langchain import ShapeChat
from ctxshaper.connectors.langchain.chat import to_messages, to_rows
from ctxshaper.pipelines import Session

SENT = []


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, *args, **kwargs):
        SENT.append([message.model_dump() for message in messages])
        return super()._generate(messages, *args, **kwargs)


@tool
def search(query: str) -> str:
    """Searches."""
    text = "Bananas grow in bunches of twelve. {} was designed by Ada Moreau. Nobody knew why potatoes were late."
    return json.dumps({"results": [{"text": text.format(f"The {query} {n}")} for n in range(6)]})


def agent(turns, **options):
    SENT.clear()
    answers = []
    for turn in range(turns):
        call = {"name": "search", "args": {"query": f"bridge number {turn}"}, "id": str(turn)}
        answers += [AIMessage("", tool_calls=[call]), AIMessage(f"By Ada Moreau ({turn}).")]
    session = Session(Pipeline([EvidenceFilter()], reader=FakeReader(), budget="40%"), **options)
    return create_agent(
        Scripted(messages=iter(answers)), [search], middleware=[ShapeChat(session)], system_prompt="Be brief."
    )


def asked(turn):
    return HumanMessage(f"Who designed bridge number {turn}?", id=f"h{turn}")


def test_each_call_begins_with_the_messages_of_the_one_before():
    graph, state = agent(4), []
    for turn in range(4):
        state = graph.invoke({"messages": [*state, asked(turn)]})["messages"]
    assert len(SENT) == 8
    for before, after in pairwise(SENT):
        assert after[: len(before)] == before
    results = [message for message in state if isinstance(message, ToolMessage)]
    sent = [message for message in SENT[-1] if message["type"] == "tool"]
    for original, shaped in zip(results, sent, strict=True):
        assert "Bananas" in original.text  # the state keeps what the tool gave
        assert "Bananas" not in shaped["content"]
        assert json.loads(shaped["content"])["results"]
        assert (original.id, original.tool_call_id) == (shaped["id"], shaped["tool_call_id"])


async def test_the_async_twin_does_the_same():
    agent(1).invoke({"messages": [asked(0)]})
    expected = [[message["content"] for message in call] for call in SENT]
    await agent(1).ainvoke({"messages": [asked(0)]})
    assert [[message["content"] for message in call] for call in SENT] == expected


def test_rounds_are_set_aside():
    graph, state = agent(5, max_tokens=350), []
    for turn in range(5):
        state = graph.invoke({"messages": [*state, asked(turn)]})["messages"]
    assert "are set aside; hash=" in SENT[-1][1]["content"]
    assert [message["type"] for message in SENT[-1][:3]] == ["system", "human", "ai"]
    assert len(state) == 20


def test_messages_come_back_as_they_were():
    call = {"name": "search", "args": {"query": "x"}, "id": "1", "type": "tool_call"}
    messages = [
        SystemMessage("s"),
        HumanMessage([{"type": "text", "text": "h"}]),
        AIMessage("a", tool_calls=[call]),
        ToolMessage("No such file. " * 50, tool_call_id="1", status="error"),
    ]
    rows = to_rows(messages)
    assert [row["role"] for row in rows] == ["system", "user", "assistant", "tool"]
    assert all(a is b for a, b in zip(to_messages(messages, rows), messages, strict=True))
    session = Session(Pipeline([EvidenceFilter()], reader=FakeReader(), budget="10%"))
    assert session.shape(rows).messages == rows  # a failed call's message is not shaped


def test_it_takes_a_session():
    with pytest.raises(InvalidInputError, match="takes a"):
        ShapeChat("fast")
