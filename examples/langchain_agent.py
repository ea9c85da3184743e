"""LangChain agent: what a retrieval tool returns is shaped before the model reads it."""

from collections.abc import Iterator

from corpus import QUESTION, TEXTS, MiniLM
from embedded_lm import SmolChat
from langchain.agents import create_agent
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import create_retriever_tool

from ctxshaper import Reader
from ctxshaper.connectors.langchain import ContextShaper, ShapeToolResults, map_citation

store = FAISS.from_documents([Document(t, id=title, metadata={"title": title}) for title, t in TEXTS.items()], MiniLM())
search = create_retriever_tool(
    store.as_retriever(search_kwargs={"k": 6}),
    "search",
    "Searches the town's archive.",
    response_format="content_and_artifact",  # hands the documents over: they are shaped one by one
)


class Model(SmolChat):
    """SmolLM2 does not call tools: the call is scripted, the answer is its own. Any model with tools goes here."""

    def bind_tools(self, tools: list, **kwargs: object) -> "Model":
        return self

    def _stream(self, messages: list[BaseMessage], *args: object, **kwargs: object) -> Iterator:
        raise NotImplementedError

    def _generate(self, messages: list[BaseMessage], *args: object, **kwargs: object) -> ChatResult:
        if not isinstance(messages[-1], ToolMessage):
            call = {"name": "search", "args": {"query": messages[-1].text}, "id": "1"}
            return ChatResult(generations=[ChatGeneration(message=AIMessage("", tool_calls=[call]))])
        read = f"{messages[-1].text}\n\nAnswer in one short sentence: {QUESTION}"
        return super()._generate([HumanMessage(read)])


agent = create_agent(Model(), [search], middleware=[ShapeToolResults(ContextShaper(budget="30%"))])
messages = agent.invoke({"messages": [HumanMessage(QUESTION)]})["messages"]
tool, answer = messages[-2:]
count, found = Reader().count_tokens, search.invoke({"query": QUESTION})
print(f"tokens saved: {count(found) - count(tool.text)} of {count(found)}")
print(f"answer: {answer.text}")

citation = map_citation(tool.artifact, answer.text) or map_citation(tool.artifact, "Ada Moreau")
(span, *_) = citation.spans
print(f"cited: {citation.id}[{span.start}:{span.end}] = {TEXTS[citation.id][span.start : span.end]!r}")
