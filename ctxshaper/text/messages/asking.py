"""What is asked of the passages in a row: by the tool's caller, by the row itself, or by the user before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctxshaper.text.messages.forms import Text, calls, fields, texts
from ctxshaper.text.messages.recognising import layout_of

# Where a template says which of its lines is the question.
_QUESTION = re.compile(
    r"^[ \t]{0,8}(?:[#*]{1,6}[ \t]?)?(?:(?:user|my|the|your)?[ ]?(?:question|query)|frage|pregunta)[ \t]?\*{0,2}[ \t]?:"
    r"\*{0,2}[ \t]{0,8}(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
# What a template asks for behind the question ("Answer:").
_ANSWER = re.compile(
    r"\n[ \t]{0,8}(?:[#*]{1,6}[ \t]?)?(?:[\w ]{0,20}answer|antwort|réponse|respuesta)[^\n:]{0,20}:", re.IGNORECASE
)


class Asked(NamedTuple):
    """A question, and the row in which it stands.

    Attributes:
        row: its place among the messages.
        text: the question.
    """

    row: int
    text: str


class Questions:
    """What is asked of the passages of each row; made once for a chat, and moved on row by row.

    Args:
        messages: the chat.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self._messages = messages
        self._calls: dict[str, Asked] = {}
        self._said: list[Asked] = []
        self._reached = 0

    def asked(self, row: int, text: Text) -> Asked | None:
        """What is asked of the passages in a text; rows are asked about in order. None: nothing is."""
        for place in range(self._reached, row + 1):
            message = self._messages[place]
            self._calls.update((name, Asked(place, asked)) for name, asked in calls(message))
            if said := said_by_user(message):
                self._said.append(Asked(place, said))
        self._reached = max(self._reached, row + 1)
        return self._calls.get(text.call) or (self._said[-1] if self._said else None)


def said_by_user(message: Mapping[str, Any]) -> str:
    """What a user's row says outside of the passages in it; empty where it says nothing, and for other roles.

    Of a template that marks its question ("Question: ...") the question alone.
    """
    said = []
    for text in texts(fields(message)):
        if text.kind == "said":
            layout = layout_of(text)
            around = text.text if layout is None else layout.around()
            marked = list(_QUESTION.finditer(around)) if layout is not None else []
            outside = _ANSWER.split(around[marked[-1].end() :], maxsplit=1)[0] if marked else around
            if layout is not None:
                outside = " ".join(outside.split())
            if outside.strip():
                said.append(outside.strip())
    return "\n".join(said)
