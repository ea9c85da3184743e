"""Source code: cut at definitions and statements, each under the line of its class or function.

Python through tree-sitter's grammar, which is linear and reads on behind errors; other languages by their indentation:
a line at the margin begins a block, and what is indented or closes it belongs to it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from ctxshaper.data import Span
from ctxshaper.text.structures.tree import Container, Leaf, Structure, at_empty_lines

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

# Definitions up to so many characters are kept or dropped whole; set by hand: some twenty lines.
_WHOLE = 800
_CLASS, _FUNCTION = "class_definition", "function_definition"


@cache
def _parser() -> Parser:
    import tree_sitter_python
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_python.language()))


def python_structure(source: str) -> Structure:
    """The tree of a Python source: its statements, those of long functions and of classes under their header."""
    data = source.encode("utf-8", "replace")
    places = _places(source, data)
    leaves: list[Leaf] = []
    containers: list[Container] = []
    labels: dict[int, str] = {}
    # Nodes still to be looked at, the first last: their parent container and what is written in front of them.
    todo: list[tuple[Node, int, str, int]] = []

    def put(nodes: list[Node], parent: int, path: str, start: int) -> None:
        found: list[tuple[Node, int, str, int]] = []
        for node in nodes:
            if node.type == "comment":  # belongs to what follows, or to the line that it stands behind
                if found and node.start_point[0] == found[-1][0].end_point[0]:
                    continue
                start = min(start, node.start_byte) if start >= 0 else node.start_byte
                continue
            found.append((node, parent, path, start if start >= 0 else node.start_byte))
            start = -1
        if start >= 0:
            found.append((nodes[-1], parent, path, start))
        todo.extend(reversed(found))

    put(list(_parser().parse(data).root_node.children), -1, "", -1)
    while todo:
        node, parent, path, start = todo.pop()
        inner = node.child_by_field_name("definition") if node.type == "decorated_definition" else node
        body = inner.child_by_field_name("body") if inner is not None and inner.type in (_CLASS, _FUNCTION) else None
        first, last = _line_start(source, places(start)), _line_end(source, places(node.end_byte))
        if (
            inner is not None
            and body is not None
            and body.named_child_count > 1
            and (last - first > _WHOLE or inner.type == _CLASS)
        ):
            name = inner.child_by_field_name("name")
            title = source[places(name.start_byte) : places(name.end_byte)] if name else ""
            below = f"{path} > {title}" if path else title
            # The header ends where its first statement's line begins.
            opening = Span(first, _line_start(source, places(body.start_byte)))
            containers.append(Container(opening, Span(last, last), parent))
            put(list(body.children), len(containers) - 1, below, -1)
            continue
        if last > first:
            labels[len(leaves)] = path
            leaves.append(Leaf(Span(first, last), parent))
    return Structure(
        source, tuple(leaf.span for leaf in leaves), leaves, containers, labels={n: p for n, p in labels.items() if p}
    )


def _places(source: str, data: bytes) -> Callable[[int], int]:
    """From a byte's place to a character's."""
    if len(data) == len(source):
        return lambda place: place
    # Where characters of several bytes begin, and how many bytes stand behind them too many by then.
    starts, extra, place, surplus = [], [], 0, 0
    for character in source:
        size = len(character.encode("utf-8", "replace"))
        place += size
        if size > 1:
            surplus += size - 1
            starts.append(place)
            extra.append(surplus)

    def found(byte: int) -> int:
        number = bisect_right(starts, byte)
        return byte - (extra[number - 1] if number else 0)

    return found


def _line_end(source: str, place: int) -> int:
    """Where the line of a place ends, if nothing but a comment stands behind it; else the place."""
    end = source.find("\n", place)
    end = len(source) if end < 0 else end
    return end if source[place:end].lstrip()[:1] in ("", "#") else place


def _line_start(source: str, place: int) -> int:
    """Where the line of a place begins, if nothing but white space stands before it; else the place."""
    start = place
    while start and source[start - 1] in " \t":
        start -= 1
    return start if not start or source[start - 1] in "\n\r" else place


def block_structure(source: str) -> Structure:
    """The blocks of code in another language: a line at the margin, and what is indented below it or closes it."""
    spans: list[Span] = []
    place = start = 0
    for line in source.splitlines(keepends=True):
        begins = line.strip() and line[0] not in " \t)]}*" and not line.startswith(("{", "end"))
        if begins and place > start and source[start:place].strip() and not _leads_on(source[start:place]):
            spans.append(Span(start, place))
            start = place
        place += len(line)
    if source[start:].strip():
        spans.append(Span(start, len(source)))
    pieces = [piece for span in spans for piece in at_empty_lines(source, span, _WHOLE)]
    return Structure(source, tuple(pieces), [Leaf(piece) for piece in pieces])


def _leads_on(text: str) -> bool:
    """Whether a block is comments and annotations alone so far: they belong to what follows."""
    return all(not line.strip() or line.lstrip()[0] in "/*#@" for line in text.splitlines())
