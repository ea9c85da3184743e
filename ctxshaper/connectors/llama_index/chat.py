"""LlamaIndex's chat messages as rows that a session shapes, and what became of them as messages."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import (
    CachePoint,
    ChatMessage,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)

from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines import Session, ShapedChat

_log = logging.getLogger(__name__)
# The field of a row, and of a part of its content, that says which message or block it is.
_PLACE = "llama_index_place"
_ROLES = {
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.FUNCTION: "tool",
}


def is_session(session: Any) -> Session:
    """The session.

    Raises:
        InvalidInputError: something else, or none.
    """
    if not isinstance(session, Session):
        raise InvalidInputError(f"session must be a ctxshaper.pipelines.Session, but got {session!r:.80}")
    return session


def shape(session: Session, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages as a session shapes them; those that did not change are the ones given."""
    return _shaped(messages, session.shape(to_rows(messages)))


async def ashape(session: Session, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The same without blocking the event loop."""
    return _shaped(messages, await session.ashape(to_rows(messages)))


def _shaped(messages: Sequence[ChatMessage], shaped: ShapedChat) -> list[ChatMessage]:
    for warning in shaped.warnings:
        _log.warning(warning)
    return to_messages(messages, shaped.messages)


def to_rows(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages as rows in OpenAI's form, each with its place. A pure function."""
    return [{**_row(message), _PLACE: place} for place, message in enumerate(messages)]


def to_messages(messages: Sequence[ChatMessage], rows: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """The messages as rows say them: those that did not change themselves, copies of others. A pure function.

    Args:
        messages: the originals; not touched.
        rows: what became of `to_rows` of them.
    """
    made = []
    for row in rows:
        place = row.get(_PLACE)
        if place is None:  # the marker of a round that was set aside
            made.append(ChatMessage(role=row["role"], content=row["content"]))
        elif row["content"] == _parts(messages[place]):
            made.append(messages[place])
        else:
            blocks = [_block(messages[place].blocks[part[_PLACE]], part) for part in row["content"]]
            made.append(messages[place].model_copy(update={"blocks": blocks}))
    return made


def _row(message: ChatMessage) -> dict[str, Any]:
    kwargs = message.additional_kwargs
    row: dict[str, Any] = {"role": _ROLES.get(message.role, message.role.value), "content": _parts(message)}
    if row["role"] == "tool":
        row["tool_call_id"] = kwargs.get("tool_call_id") or kwargs.get("name")
    elif row["role"] == "assistant":
        calls = [_call(block) for block in message.blocks if isinstance(block, ToolCallBlock)]
        # Some models' messages hold their calls here, in OpenAI's form.
        row["tool_calls"] = calls or kwargs.get("tool_calls") or []
    return row


def _parts(message: ChatMessage) -> list[dict[str, Any]]:
    """The blocks of a message: text that a session may shape, and the places of all else."""
    parts: list[dict[str, Any]] = []
    for place, block in enumerate(message.blocks):
        part: dict[str, Any] = {"type": block.block_type, _PLACE: place}
        if isinstance(block, TextBlock):
            part["text"] = block.text
        elif isinstance(block, ThinkingBlock):
            part["thinking"] = block.content
        elif isinstance(block, CachePoint):
            part["cache_control"] = block.cache_control.model_dump()
        parts.append(part)
    return parts


def _call(block: ToolCallBlock) -> dict[str, Any]:
    given = block.tool_kwargs
    arguments = given if isinstance(given, str) else json.dumps(given, default=str)
    return {"id": block.tool_call_id, "function": {"name": block.tool_name, "arguments": arguments}}


def _block(block: Any, part: Mapping[str, Any]) -> Any:
    said = part.get("text")
    return block if said is None or said == block.text else block.model_copy(update={"text": said})
