"""What a session gives back: a chat as it should be sent, and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ctxshaper.data import Context


@dataclass(frozen=True, slots=True)
class ShapedItem:
    """A text of a chat whose passages were shaped.

    Attributes:
        message: the place of its message among those given.
        tokens_before: of the text as it came.
        tokens_after: as it goes out.
        hash: `Session.original` gives the text as it came for it.
        context: the shaped context; texts of one message with the same query share it.
    """

    message: int
    tokens_before: int
    tokens_after: int
    hash: str
    context: Context = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetAsideRound:
    """A round of a chat that a marker stands for.

    Attributes:
        messages: how many rows it had.
        tokens: in them.
        hash: `Session.original` gives the rows for it.
    """

    messages: int
    tokens: int
    hash: str


@dataclass(frozen=True, slots=True)
class ShapedChat:
    """A chat as it should be sent.

    Attributes:
        messages: what to send; rows that did not change are those that were given.
        tokens_before: of all texts as they came.
        tokens_after: as they go out.
        items: the texts that are not as they came, since this request or an earlier one.
        set_aside: the rounds that a marker stands for.
        warnings: what is new in this request and the user should know, in plain sentences.
    """

    messages: list[dict[str, Any]]
    tokens_before: int
    tokens_after: int
    items: tuple[ShapedItem, ...] = ()
    set_aside: tuple[SetAsideRound, ...] = ()
    warnings: tuple[str, ...] = ()
