"""LangChain agents: shapes the chat that the model is sent, each text once. Needs the package langchain."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

try:
    from langchain.agents.middleware import AgentMiddleware
    from langchain.agents.middleware.types import ModelRequest, ModelResponse
except ImportError as missing:
    from ctxshaper.errors import MissingDependencyError
    from ctxshaper.extras import install_line

    raise MissingDependencyError(f"ShapeChat needs langchain 1.x; {install_line('langchain')}") from missing
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines import Session, ShapedChat

_log = logging.getLogger(__name__)
# The field of a row that says which message it is.
_PLACE = "langchain_place"


class ShapeChat(AgentMiddleware[Any, Any, Any]):
    """Agent middleware: the model is sent the chat as a session shapes it; the agent's own state stays as it is.

    Results of tools and passages in human messages are shaped when they enter the chat, and are the same bytes in each
    further call, so that providers' prompt caches hold. With the session's `max_tokens`, old rounds are set aside.

        create_agent(model, tools, middleware=[ShapeChat(Session(Pipeline.from_recipe("fast")))])

    Args:
        session: shapes; may be shared.

    Raises:
        InvalidInputError: no session.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        if not isinstance(session, Session):
            raise InvalidInputError(f"ShapeChat takes a ctxshaper.pipelines.Session, but got {session!r:.80}")
        self.session = session

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Shape the messages and call the model."""
        shaped = self.session.shape(to_rows(request.messages))
        return handler(request.override(messages=_shaped(request.messages, shaped)))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """The same without blocking the event loop."""
        shaped = await self.session.ashape(to_rows(request.messages))
        return await handler(request.override(messages=_shaped(request.messages, shaped)))


def to_rows(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages as rows in OpenAI's form, each with its place. A pure function."""
    return [{**_row(message), _PLACE: place} for place, message in enumerate(messages)]


def to_messages(messages: Sequence[BaseMessage], rows: Sequence[Mapping[str, Any]]) -> list[BaseMessage]:
    """The messages as rows say them: those that did not change themselves, copies of others. A pure function.

    Args:
        messages: the originals; not touched.
        rows: what became of `to_rows` of them.
    """
    made: list[BaseMessage] = []
    for row in rows:
        place, content = row.get(_PLACE), row["content"]
        if place is None:  # the marker of a round that was set aside
            made.append(HumanMessage(content) if row["role"] == "user" else AIMessage(content))
        elif messages[place].content == content:
            made.append(messages[place])
        else:
            made.append(messages[place].model_copy(update={"content": content}))
    return made


def _row(message: BaseMessage) -> dict[str, Any]:
    row: dict[str, Any] = {"role": message.type, "content": message.content}
    if isinstance(message, HumanMessage):
        row["role"] = "user"
    elif isinstance(message, SystemMessage):
        row["role"] = "system"
    elif isinstance(message, ToolMessage):
        row |= {"role": "tool", "tool_call_id": message.tool_call_id, "is_error": message.status == "error"}
    elif isinstance(message, AIMessage):
        calls = [
            {"id": call["id"], "function": {"name": call["name"], "arguments": json.dumps(call["args"], default=str)}}
            for call in message.tool_calls
        ]
        row |= {"role": "assistant", "tool_calls": calls}
    return row


def _shaped(messages: Sequence[Any], shaped: ShapedChat) -> list[Any]:
    for warning in shaped.warnings:
        _log.warning(warning)
    return to_messages(messages, shaped.messages)
