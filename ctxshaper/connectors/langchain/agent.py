"""LangChain agents: shapes what retrieval tools return before the model sees it. Needs the package langchain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

try:
    from langchain.agents.middleware import AgentMiddleware
    from langchain.agents.middleware.types import ToolCallRequest
except ImportError as missing:
    from ctxshaper.errors import MissingDependencyError
    from ctxshaper.extras import install_line

    raise MissingDependencyError(f"ShapeToolResults needs langchain 1.x; {install_line('langchain')}") from missing
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.runnables.config import ensure_config
from langgraph.types import Command

from ctxshaper.connectors.client import Outcome
from ctxshaper.connectors.langchain.compressor import ContextShaper
from ctxshaper.connectors.records import KEY
from ctxshaper.errors import InvalidInputError

Result = ToolMessage | Command[Any]


class ShapeToolResults(AgentMiddleware[Any, Any, Any]):
    """Agent middleware: the output of retrieval tools is shaped before the model reads it.

    A tool that hands its documents over (`response_format="content_and_artifact"`) is shaped by document: the artifact
    then holds shaped documents, the content their rendered text. A named tool that returns text is shaped as one
    passage; its record then stands under `additional_kwargs["ctxshaper"]` of the message. Errors, commands, other
    tools and other content pass untouched. The query is the tool call's `query`; without one, the last human message.

    Args:
        shaper: how to shape; a `ContextShaper()` if None.
        tools: names of the tools to shape; None for those that hand over documents.

    Raises:
        InvalidInputError: `tools` is a plain string.
    """

    def __init__(self, shaper: ContextShaper | None = None, *, tools: Sequence[str] | None = None) -> None:
        super().__init__()
        if isinstance(tools, str):
            raise InvalidInputError(f"tools must be a list of names; for one tool pass [{tools!r}]")
        self.shaper = shaper or ContextShaper()
        self.names = None if tools is None else frozenset(tools)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Result]) -> Result:
        """Call the tool and shape its result."""
        result = handler(request)
        documents = self._documents(request, result)
        if documents is None or not isinstance(result, ToolMessage):
            return result
        shaped, outcome = self.shaper.shape(_asked(request, documents), ensure_config())
        return _message(result, shaped, outcome)

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Result]]
    ) -> Result:
        """The same without blocking the event loop."""
        result = await handler(request)
        documents = self._documents(request, result)
        if documents is None or not isinstance(result, ToolMessage):
            return result
        shaped, outcome = await self.shaper.ashape(_asked(request, documents), ensure_config())
        return _message(result, shaped, outcome)

    def _documents(self, request: ToolCallRequest, result: Result) -> list[Document] | None:
        """What to shape of a result; None where it passes untouched."""
        if not isinstance(result, ToolMessage) or result.status == "error":
            return None
        if self.names is not None and request.tool_call["name"] not in self.names:
            return None
        if documents := _handed_over(result):
            return documents
        if self.names is None or not isinstance(result.content, str) or not result.content.strip():
            return None
        return [Document(result.content)]


def _handed_over(result: ToolMessage) -> list[Document]:
    artifact = result.artifact
    found = isinstance(artifact, (list, tuple)) and all(isinstance(document, Document) for document in artifact)
    return list(artifact) if found else []


def _message(result: ToolMessage, shaped: list[Document], outcome: Outcome) -> ToolMessage:
    changes: dict[str, Any] = {"content": result.content if outcome.applied is None else outcome.applied.text}
    if _handed_over(result):
        changes["artifact"] = shaped
    elif shaped:
        changes["content"] = shaped[0].page_content
        changes["additional_kwargs"] = {**result.additional_kwargs, KEY: shaped[0].metadata[KEY]}
    return result.model_copy(update=changes)


def _asked(request: ToolCallRequest, documents: list[Document]) -> dict[str, Any]:
    """What the shaper is asked: the call's query, or else what the user said last, with the chat before it."""
    state = request.state
    messages = state.get("messages", []) if isinstance(state, dict) else getattr(state, "messages", [])
    query = request.tool_call["args"].get("query")
    if not isinstance(query, str) or not query.strip():
        query = next((m.text for m in reversed(messages) if isinstance(m, HumanMessage)), "")
    return {"query": query, "documents": documents, "messages": messages}
