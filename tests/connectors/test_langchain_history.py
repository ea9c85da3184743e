"""The chat that LangChain hands over reaches the stage that reads it."""

from types import SimpleNamespace

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnablePassthrough

from ctxshaper import ContextualizeQuery, EvidenceFilter, FakeGenerator, FakeReader, InvalidInputError, Pipeline
from ctxshaper.connectors.langchain import ContextShaper, ShapeToolResults
from ctxshaper.connectors.langchain.documents import to_history

ASKED, REWRITTEN = "Where was she born?", "Where was Ada Moreau born?"
SAID = [HumanMessage("Who designed it?"), AIMessage("Ada Moreau designed it.")]
HISTORY = [{"role": "user", "content": SAID[0].text}, {"role": "assistant", "content": SAID[1].text}]
DOCUMENTS = [Document("Where was she? She was born here."), Document("It rains. Ada Moreau was born in Lyon.")]


def shaper():
    stages = [ContextualizeQuery(), EvidenceFilter()]
    return ContextShaper(
        pipeline=Pipeline(stages, reader=FakeReader(), generator=FakeGenerator(REWRITTEN)), budget="50%"
    )


@pytest.mark.parametrize(
    "given",
    [
        {"chat_history": SAID},
        {"chat_history": [("human", SAID[0].text), ("ai", SAID[1].text)]},
        {"messages": [*SAID, HumanMessage(ASKED)]},
        {"chat_history": [], "messages": SAID},
    ],
)
async def test_a_follow_up_question_is_understood(given):
    asked = {"question": ASKED, "documents": DOCUMENTS, **given}
    chain = RunnablePassthrough() | shaper()
    for documents in (chain.invoke(asked), await chain.ainvoke(asked)):
        assert "Ada Moreau" in documents[0].page_content
    assert shaper().shape(asked)[1].context.query == REWRITTEN


@pytest.mark.parametrize("given", [{}, {"chat_history": []}, {"chat_history": "Human: Who?\nAI: Ada."}])
def test_without_messages_the_question_stands_as_it_is(given):
    assert shaper().shape({"question": ASKED, "documents": DOCUMENTS, **given})[1].context.query == ASKED


def test_history_is_what_was_said_before_the_question():
    call = {"name": "search", "args": {}, "id": "1"}
    chat = [SystemMessage("s"), *SAID, HumanMessage(ASKED), AIMessage("", tool_calls=[call])]
    assert to_history([*chat, ToolMessage("found", tool_call_id="1")], f" {ASKED} ") == HISTORY
    assert to_history(chat, "designer born where") == [*HISTORY, {"role": "user", "content": ASKED}]
    with pytest.raises(InvalidInputError, match="a list of LangChain messages"):
        to_history([SAID[0], 3], ASKED)


def test_a_tools_result_is_shaped_with_the_chat_before_its_question():
    middleware = ShapeToolResults(shaper(), tools=["search"])
    request = SimpleNamespace(
        tool_call={"name": "search", "args": {}}, state={"messages": [*SAID, HumanMessage(ASKED), AIMessage("")]}
    )
    text = " ".join(document.page_content for document in DOCUMENTS)
    shaped = middleware.wrap_tool_call(request, lambda _: ToolMessage(text, tool_call_id="1"))
    assert "Ada Moreau" in shaped.text
    assert len(shaped.text) < len(text)
