"""Which passages a text of a chat holds, by what it looks like."""

from __future__ import annotations

from ctxshaper.data import Span
from ctxshaper.data.formats import format_of
from ctxshaper.text.messages.forms import Text
from ctxshaper.text.messages.json_lists import json_layout
from ctxshaper.text.messages.layout import Layout, Sibling, Slot
from ctxshaper.text.messages.numbered import numbered_layout
from ctxshaper.text.messages.tagged import tagged_layout
from ctxshaper.text.remembered import Lately

# What begins with so many characters of ASCII without white space is no text: base64, a key; nor is what has no letter.
_UNBROKEN = 500
_CHARACTERS = 2**22
_KNOWN: Lately[tuple[str, str, str], tuple[Layout | None]] = Lately(_CHARACTERS)


def layout_of(text: Text) -> Layout | None:
    """Where passages stand in a text; None where it is not recognised.

    What a user says holds passages in tags or numbered blocks. The result of a tool may also be JSON, and is one
    passage as a whole where it is none of these; so is a document.
    """
    name, cost = (text.kind, text.title, text.text), len(text.text)
    known = _KNOWN.get(name, cost)
    if known is None:
        known = (_layout(text),)
        _KNOWN.put(name, known, cost)
    return known[0]


def _layout(given: Text) -> Layout | None:
    text = given.text
    if not text.strip():
        return None
    if given.kind == "said":
        return tagged_layout(text) or numbered_layout(text, closed=False)
    if given.kind == "result":
        if layout := json_layout(text):
            return layout
        if format_of(text, {}) != "html" and (found := tagged_layout(text) or numbered_layout(text, closed=True)):
            return found
    if _is_no_text(text):
        return None
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    whole = Span(start, end)
    return Layout(text, (Slot(whole, given.title.strip()),), ((Sibling(whole, 0),),))


def _is_no_text(text: str) -> bool:
    begin = text.strip()[: _UNBROKEN + 1]
    unbroken = len(begin) > _UNBROKEN and begin.isascii() and len(begin.split()) == 1
    return unbroken or not any(map(str.isalnum, begin))
