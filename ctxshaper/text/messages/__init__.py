"""Passages in chat messages: found in the rows of OpenAI's and Anthropic's form, and written back in their own."""

from ctxshaper.text.messages.asking import said_by_user
from ctxshaper.text.messages.finding import Item, find, replaced, texts_of
from ctxshaper.text.messages.forms import (
    Path,
    answers_a_tool,
    fields,
    is_protected,
    read_by_model,
    rewritten,
    role_of,
    said_by_assistant,
)

__all__ = [
    "Item",
    "Path",
    "answers_a_tool",
    "fields",
    "find",
    "is_protected",
    "read_by_model",
    "replaced",
    "rewritten",
    "role_of",
    "said_by_assistant",
    "said_by_user",
    "texts_of",
]
