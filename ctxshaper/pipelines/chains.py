"""Names for the beginnings of a chat: one hash for the messages up to a row and that row, whatever follows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ctxshaper.errors import InvalidInputError
from ctxshaper.text.messages import fields

# The name of no messages at all.
START = ""
# Characters of a name by which texts can be had back.
SHORT = 24


def checked(messages: Any) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """The messages as they are, and as rows of fields.

    Raises:
        InvalidInputError: something that is no list of chat messages.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        raise InvalidInputError(f"messages must be a list of dicts with a role, but got {type(messages).__name__}")
    given, rows = list(messages), []
    for place, message in enumerate(given):
        row = fields(message)
        if not row:  # rows of a form that is not known are let pass
            raise InvalidInputError(
                f"message {place} must be a dict, in OpenAI's or Anthropic's form, but got {message!r:.80}"
            )
        rows.append(row)
    return given, rows


def chained(before: str, message: Mapping[str, Any]) -> str:
    """The name of a beginning that is longer by this message. Where a client wants the cache to end does not count.

    Raises:
        InvalidInputError: a message that cannot be written as JSON.
    """
    try:
        text = json.dumps(_bare(message), sort_keys=True, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"a message must be plain data for JSON, but: {error}") from error
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def short_hash(text: str) -> str:
    """The name of a text by which it can be had back."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT]


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(v) for v in value]
    known = fields(value)
    return {k: _bare(v) for k, v in known.items() if k != "cache_control"} if known else value


def _plain(value: Any) -> Any:
    return repr(value)
