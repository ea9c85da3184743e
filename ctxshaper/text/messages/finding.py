"""Finds the passages in chat messages, and writes shaped ones back."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.text.messages.asking import Questions
from ctxshaper.text.messages.forms import Path, fields, is_protected, rewritten, texts
from ctxshaper.text.messages.layout import Layout, into_last_string
from ctxshaper.text.messages.recognising import layout_of


@dataclass(frozen=True)
class Item:
    """One text of a message that holds passages.

    Attributes:
        message: the place of its message.
        path: where the text stands in the message: keys and places, from the outside in.
        query: what is asked of its passages.
        asked_in: the place of the message in which that is asked: a user's, or the assistant's that called the tool.
        layout: where the passages stand in the text.
        call: the id of the tool call that the text answers; empty where it answers none.
    """

    message: int
    path: Path
    query: str
    asked_in: int
    layout: Layout
    call: str = ""

    @property
    def text(self) -> str:
        """The text, as it stands in the message."""
        return self.layout.text

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """The passages, ranked in the order in which they stand."""
        return self.layout.passages()

    def written(self, texts: Sequence[str | None], marker: str = "") -> str:
        """The text in its own form, in which each passage says what is given: JSON stays JSON, tags stay closed.

        Args:
            texts: one for each of `passages`; None drops the passage. What is equal to a passage's source stays byte
                for byte. A passage that is a whole JSON value becomes null when it is dropped.
            marker: is put at the end of the last passage that is kept; where there is no place for it, left out.

        Raises:
            InvalidInputError: not one text for each passage.
        """
        if len(texts) != len(self.layout.slots):
            raise InvalidInputError(
                f"this text holds {len(self.layout.slots)} passages, but got {len(texts)} texts; give None for those "
                "to drop"
            )
        kept = [place for place, text in enumerate(texts) if text is not None]
        if not kept and len(texts) == 1 and self.layout.slots[0].kind == "json":
            return self.layout.written(["null"])
        if not marker or not kept:
            return self.layout.written(texts)
        last, said = kept[-1], texts[kept[-1]] or ""
        is_json = self.layout.slots[last].kind == "json"
        marked = (into_last_string(said, f" {marker}") or said) if is_json else f"{said} {marker}".lstrip()
        return self.layout.written([marked if place == last else text for place, text in enumerate(texts)])

    def noted(self, note: str) -> str:
        """The text in its own form with a note in place of all its passages."""
        is_json = self.layout.slots[0].kind == "json"
        others: list[str | None] = [None] * (len(self.layout.slots) - 1)
        return self.layout.written([json.dumps(note) if is_json else note, *others])


def find(messages: Sequence[Mapping[str, Any]], rows: Container[int] | None = None) -> list[Item]:
    """Find the passages in chat messages: in the results of tools, in tags, and in numbered or titled blocks.

    The messages are plain dicts in OpenAI's chat form or in Anthropic's. System and assistant rows, rows with a
    `cache_control`, failed results, images, and whatever is not recognised hold no items. Linear in the text.

    Args:
        messages: a chat.
        rows: the places of the messages to look into; None for all.

    Returns:
        The items in order. The query of a tool's result is in the arguments of its call (`query`, `question`, ...), or
        else what the user said last before it; of passages in a user's row it is the text around them, or else what
        the user said before. Passages of which nothing is asked are none.
    """
    given = [fields(message) for message in messages]
    questions = Questions(given)
    items = []
    for place, message in enumerate(given):
        if (rows is not None and place not in rows) or is_protected(message):
            continue
        for text in texts(message):
            layout = layout_of(text)
            asked = questions.asked(place, text) if layout is not None else None
            if layout is not None and asked is not None:
                items.append(Item(place, text.path, asked.text, asked.row, layout, text.call))
    return items


def replaced(messages: Sequence[Mapping[str, Any]], new: Mapping[Item, str | None]) -> list[dict[str, Any]]:
    """The messages with other texts in the places of items; nothing given is changed, only what differs is copied.

    Args:
        messages: the chat in which the items were found.
        new: by item its new text; None takes the block that holds it out of its message.
    """
    changes: dict[int, dict[Path, str | None]] = {}
    for item, text in new.items():
        if text != item.text:
            changes.setdefault(item.message, {})[item.path] = text
    return [
        rewritten(message, changes[place]) if place in changes else message  # type: ignore[misc]  # the caller's dict
        for place, message in enumerate(messages)
    ]


def texts_of(shaped: Iterable[Passage], count: int, ellipsis: str) -> list[str | None]:
    """What passages say by rank, as `Item.written` takes it: None for those of which nothing is left.

    Args:
        shaped: with the ranks that they had before shaping.
        count: how many passages there were.
        ellipsis: marks missing text.
    """
    said: list[str | None] = [None] * count
    for passage in shaped:
        body = passage.source if passage.complete else passage.joined(ellipsis).strip("\r\n").rstrip()
        if passage.rank is not None and body.strip():
            said[passage.rank] = body
    return said
