"""Lists of retrieved passages in JSON: `[{"text": ...}, ...]`, alone or under `results`, `documents` and the like."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

from ctxshaper.data import Span
from ctxshaper.data.json import parse_json
from ctxshaper.errors import InvalidInputError
from ctxshaper.text.messages.layout import Layout, Sibling, Slot
from ctxshaper.text.structures.json_tree import TOKEN

# Members that hold what an element says; of several the longest is the passage.
_TEXTS = {"text", "content", "page_content", "pagecontent", "body", "snippet", "passage", "chunk", "chunk_text",
          "document", "raw_content", "markdown", "excerpt", "extract", "summary", "abstract", "description",
          "highlight"}  # fmt: skip
_TITLES = ("title", "name", "heading", "source", "url")
# Members that hold the list, of an object at the top or in another of these.
_LISTS = {"documents", "docs", "results", "chunks", "passages", "matches", "hits", "items", "data", "nodes", "sources",
          "snippets", "records", "entries", "articles", "pages", "points", "value", "values", "response", "result",
          "output", "web", "organic", "organic_results", "search_results", "context", "contexts", "source_nodes",
          "source_documents", "retrieved_documents", "retrieval_results", "retrievalresults"}  # fmt: skip
_LONGEST_TITLE = 200


@dataclass(slots=True)
class _Node:
    kind: Literal["object", "array", "string", "other"]
    start: int
    end: int
    key: str = ""
    inside: list[_Node] = field(default_factory=list)


def json_layout(text: str) -> Layout | None:
    """The passages of a text that is JSON; where it holds no list of them, all of it is one. None: not JSON.

    A string by itself is a passage with quotes around it.
    """
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if text[start : start + 1] + text[start:end][-1:] not in ("{}", "[]", '""'):
        return None
    try:
        parse_json(text, "a tool's result")
    except InvalidInputError:
        return None
    if text[start] == '"':
        inside = Span(start + 1, end - 1)
        return Layout(text, (Slot(inside, escaped=True),), ((Sibling(inside, 0),),)) if len(inside) else None
    slots: list[Slot] = []
    rows: list[tuple[Sibling, ...]] = []
    top = _tree(text)
    waiting = [(top, True)]
    while waiting:
        node, named = waiting.pop()
        if node.kind == "array" and named:
            row = _row(text, node, slots, of_strings=node is top)
            if row:
                rows.append(row)
        elif node.kind == "object":
            waiting += [(child, child.key.lower() in _LISTS) for child in reversed(node.inside) if child.inside]
    if slots:
        return Layout(text, tuple(slots), tuple(rows))
    whole = Span(start, end)
    return Layout(text, (Slot(whole, kind="json"),), ((Sibling(whole, 0),),))


def _row(text: str, array: _Node, slots: list[Slot], *, of_strings: bool) -> tuple[Sibling, ...]:
    """The elements of a list, and their slots; empty where it is no list of passages.

    Strings are passages only in a list that is all there is: beside it others may line up with its places.
    """
    row: list[Sibling] = []
    found = len(slots)
    for element in array.inside:
        slot = _slot(text, element, of_strings)
        row.append(Sibling(Span(element.start, element.end), None if slot is None else len(slots)))
        if slot is not None:
            slots.append(slot)
    if 2 * (len(slots) - found) < len(row):  # a list of something else
        del slots[found:]
    return tuple(row) if len(slots) > found else ()


def _slot(text: str, element: _Node, of_strings: bool) -> Slot | None:
    """What an element says: its own text, a string of words, or the text of an object one level down."""
    if element.kind == "string" and of_strings:
        said = Span(element.start + 1, element.end - 1)
        return Slot(said, escaped=True) if " " in text[said.start : said.end].strip() else None
    if element.kind != "object":
        return None
    inside = [element, *(child for child in element.inside if child.kind == "object")]
    members = [
        [n for n in near.inside if n.kind == "string" and text[n.start + 1 : n.end - 1].strip()] for near in inside
    ]
    for own in members:
        said_by = [n for n in own if n.key.lower() in _TEXTS]
        if said_by:
            best = max(said_by, key=lambda n: n.end - n.start)
            named = {n.key.lower(): n for some in reversed(members) for n in some}
            title = next((named[name] for name in _TITLES if name in named), None)
            return Slot(Span(best.start + 1, best.end - 1), _title(text, title), escaped=True)
    return None


def _title(text: str, node: _Node | None) -> str:
    if node is None or node.end - node.start > _LONGEST_TITLE:
        return ""
    return str(json.loads(text[node.start : node.end])).strip()


def _tree(text: str) -> _Node:
    """The values of a text that parses as JSON, with where they stand. Linear."""
    top = _Node("array", 0, len(text))
    stack, key = [top], None
    for match in TOKEN.finditer(text):
        start, end = match.span()
        sign = text[start]
        if sign in "}]":
            stack.pop().end = end
        elif sign in ",:":
            continue
        elif sign == '"' and stack[-1].kind == "object" and key is None:
            key = text[start + 1 : end - 1]
        else:
            kind: dict[str, Literal["object", "array", "string"]] = {"{": "object", "[": "array", '"': "string"}
            node = _Node(kind.get(sign, "other"), start, end, key or "")
            stack[-1].inside.append(node)
            key = None
            if sign in "{[":
                stack.append(node)
    return top.inside[0]
