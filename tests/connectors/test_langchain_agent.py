"""An agent of langchain 1.x with a retrieval tool."""

from types import SimpleNamespace

import pytest
from corpus import QUESTION
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import create_retriever_tool, tool
from langgraph.types import Command

from ctxshaper import InvalidInputError
from ctxshaper.connectors.langchain import ContextShaper, ShapeToolResults, map_citation


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **kwargs):
        return self


@tool
def add(query: str) -> str:
    """Adds."""
    return "The sum is 4. " * 20


def agent(store, pipeline, response_format="content_and_artifact", names=None, called="search", mode="shape"):
    search = create_retriever_tool(
        store.as_retriever(search_kwargs={"k": 6}), "search", "Searches.", response_format=response_format
    )
    call = {"name": called, "args": {"query": QUESTION}, "id": "1"}
    model = Scripted(messages=iter([AIMessage("", tool_calls=[call]), AIMessage("By Ada Moreau.")]))
    middleware = ShapeToolResults(ContextShaper(pipeline=pipeline, mode=mode), tools=names)
    return create_agent(model, [search, add], middleware=[middleware]), search.invoke({"query": QUESTION})


def run(graph):
    return graph.invoke({"messages": [HumanMessage(QUESTION)]})["messages"][-2]


def test_documents_of_a_tool_are_shaped_one_by_one(store, pipeline):
    graph, full = agent(store, pipeline)
    message = run(graph)
    assert len(message.text) < len(full) / 2
    assert "Ada Moreau" in message.text
    assert all(d.metadata["ctxshaper"] for d in message.artifact)
    assert map_citation(message.artifact, "designed by the engineer Ada Moreau").id == "Ember Bridge"


async def test_the_async_twin_does_the_same(store, pipeline):
    expected = run(agent(store, pipeline)[0])
    graph, _ = agent(store, pipeline)
    message = (await graph.ainvoke({"messages": [HumanMessage(QUESTION)]}))["messages"][-2]
    assert (message.text, message.artifact) == (expected.text, expected.artifact)


def test_text_of_a_named_tool_is_shaped_and_mapped_to_the_tools_own_output(store, pipeline):
    graph, full = agent(store, pipeline, "content", names=["search"])
    message = run(graph)
    assert len(message.text) < len(full) / 2
    citation = map_citation([message], "designed by the engineer Ada Moreau")
    (span,) = citation.spans
    assert full[span.start : span.end] == "designed by the engineer Ada Moreau"


def test_other_tools_and_unnamed_text_pass_untouched(store, pipeline):
    assert run(agent(store, pipeline, called="add")[0]).text == "The sum is 4. " * 20
    graph, full = agent(store, pipeline, "content")
    assert run(graph).text == full


def test_shadow_leaves_the_message_as_it_is(store, pipeline):
    graph, full = agent(store, pipeline, mode="shadow")
    message = run(graph)
    assert message.text == full
    assert "shadow" in message.artifact[0].metadata["ctxshaper"]


@pytest.mark.parametrize(
    "result",
    [Command(goto="end"), ToolMessage("failed", tool_call_id="1", status="error"), ToolMessage([], tool_call_id="1")],
)
def test_commands_errors_and_other_content_pass(pipeline, result):
    middleware = ShapeToolResults(ContextShaper(pipeline=pipeline), tools=["search"])
    request = SimpleNamespace(tool_call={"name": "search", "args": {}}, state={"messages": []})
    assert middleware.wrap_tool_call(request, lambda _: result) is result


def test_without_a_query_in_the_call_the_last_question_counts(pipeline):
    middleware = ShapeToolResults(ContextShaper(pipeline=pipeline, budget=20), tools=["search"])
    state = {"messages": [HumanMessage("Who designed the bridge?"), AIMessage("")]}
    request = SimpleNamespace(tool_call={"name": "search", "args": {"place": "Oldport"}}, state=state)
    text = "Bananas are yellow. They are sweet. The bridge was designed by Ada Moreau. It rains in May."
    shaped = middleware.wrap_tool_call(request, lambda _: ToolMessage(text, tool_call_id="1"))
    assert "Ada Moreau" in shaped.text
    assert len(shaped.text) < len(text)


def test_a_plain_string_of_tools_is_refused():
    with pytest.raises(InvalidInputError, match="pass \\['search'\\]"):
        ShapeToolResults(tools="search")
