"""JSON, and rows of JSON values: cut at members and elements, so that what is left still parses."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ctxshaper.data import Span
from ctxshaper.text.segments import sentences
from ctxshaper.text.structures.tree import Container, Leaf, Structure

# Every token of a text that parses as JSON: signs, strings with their quotes, numbers and names.
TOKEN = re.compile(r'[{}\[\],:]|"[^"\\]*(?:\\.[^"\\]*)*"|[^\s{}\[\],:"]+', re.DOTALL)
# Objects and arrays up to so many characters are kept or dropped whole; set by hand: about a sentence or two.
_WHOLE = 300
# The members that say which record this is, the telling ones first, if they are short.
_NAMED = (
    re.compile(r'"(?:\w{0,20}[_-]?name|title|label|subject)"', re.IGNORECASE),
    re.compile(r'"(?:\w{0,20}[_-]?id|key|symbol|code|slug|sku|number)"', re.IGNORECASE),
)
_LONGEST_NAME = 120
_PATH = 100


@dataclass
class _Frame:
    container: int
    is_object: bool
    key: Span | None = None
    last: tuple[bool, int] | None = None  # whether the last child is a container, and its place


def json_structure(source: str) -> Structure:
    """The tree of a text that parses as JSON, or as JSON line by line. Linear."""
    leaves, containers, keys = _parsed(source)
    whole, paths = _small(containers), _paths(containers, keys)
    units: list[Span] = []
    of_unit: list[int] = []  # the container around each unit
    for leaf in leaves:
        inside = leaf.parent
        if inside >= 0 and whole[inside] >= 0:
            extent = _extent(containers[whole[inside]])
            if not units or units[-1] != extent:
                units.append(extent)
                of_unit.append(containers[whole[inside]].parent)
            continue
        if not leaf.atomic:  # a long string: its sentences, the first and the last with what stands around
            extent, inside = _extent(containers[inside]), containers[inside].parent
            ends = [leaf.span.start + span.end for span in sentences(source[leaf.span.start : leaf.span.end])]
            for start, end in zip([extent.start, *ends[:-1]], [*ends[:-1], extent.end], strict=True):
                units.append(Span(start, end))
                of_unit.append(inside)
            continue
        units.append(leaf.span)
        of_unit.append(inside)
    above = _names(source, units, of_unit, containers)
    labels = {n: paths[inside] for n, inside in enumerate(of_unit) if inside >= 0 and paths[inside]}
    return Structure(source, tuple(units), leaves, containers, above, labels=labels, escaped=True)


def _parsed(source: str) -> tuple[list[Leaf], list[Container], list[str]]:
    """Leaves, containers and the containers' keys, in order."""
    leaves: list[Leaf] = []
    containers: list[Container] = []
    keys: list[str] = []
    stack: list[_Frame] = []

    def begin(start: int) -> tuple[int, int, str]:
        """Where the value that starts here begins with its key, its container, and the key."""
        if not stack:
            return start, -1, ""
        frame = stack[-1]
        key, frame.key = frame.key, None
        return (
            (key.start, frame.container, source[key.start + 1 : key.end - 1]) if key else (start, frame.container, "")
        )

    def ended(is_container: bool, place: int) -> None:
        if stack:
            stack[-1].last = is_container, place

    for match in TOKEN.finditer(source):
        start, end = match.span()
        sign = source[start]
        if sign in "{[":
            first, parent, key = begin(start)
            containers.append(Container(Span(first, end), Span(end, end), parent))
            keys.append(key)
            stack.append(_Frame(len(containers) - 1, sign == "{"))
        elif sign in "}]":
            frame = stack.pop()
            container = containers[frame.container]
            if frame.last is None:  # empty: one leaf
                leaves.append(Leaf(Span(container.open.start, end), container.parent, atomic=True))
                ended(False, len(leaves) - 1)
            else:
                containers[frame.container] = replace(container, close=Span(start, end))
                ended(True, frame.container)
        elif sign == ",":
            kind, place = stack[-1].last or (False, -1)
            if kind:
                containers[place] = replace(containers[place], comma=start)
            else:
                leaves[place] = replace(leaves[place], comma=start)
        elif sign == ":":
            pass
        elif sign == '"' and stack and stack[-1].is_object and stack[-1].key is None:
            stack[-1].key = Span(start, end)
        else:
            first, parent, key = begin(start)
            if sign == '"' and end - start > _WHOLE:
                containers.append(Container(Span(first, start + 1), Span(end - 1, end), parent))
                keys.append(key)
                leaves.append(Leaf(Span(start + 1, end - 1), len(containers) - 1))
                ended(True, len(containers) - 1)
            else:
                leaves.append(Leaf(Span(first, end), parent, atomic=True))
                ended(False, len(leaves) - 1)
    return leaves, containers, keys


def _extent(container: Container) -> Span:
    return Span(container.open.start, container.close.end)


def _small(containers: list[Container]) -> list[int]:
    """By container, the outermost around it (or itself) that is kept or dropped whole; -1 for none."""
    found: list[int] = []
    for place, container in enumerate(containers):
        outer = found[container.parent] if container.parent >= 0 else -1
        found.append(outer if outer >= 0 else place if len(_extent(container)) <= _WHOLE else -1)
    return found


def _paths(containers: list[Container], keys: list[str]) -> list[str]:
    paths: list[str] = []
    for container, key in zip(containers, keys, strict=True):
        before = paths[container.parent] if container.parent >= 0 else ""
        paths.append(" > ".join(filter(None, (before, key)))[-_PATH:])
    return paths


def _names(source: str, units: list[Span], of_unit: list[int], containers: list[Container]) -> dict[int, int]:
    """By unit, the one that names the record it belongs to, its own object's or an outer one's."""
    own: dict[int, int] = {}
    for pattern in _NAMED:
        for number, (unit, inside) in enumerate(zip(units, of_unit, strict=True)):
            if inside >= 0 and inside not in own and len(unit) <= _LONGEST_NAME and pattern.match(source, unit.start):
                own[inside] = number
    around: list[int] = []
    for place, container in enumerate(containers):
        around.append(own.get(place, around[container.parent] if container.parent >= 0 else -1))
    above = {}
    for number, inside in enumerate(of_unit):
        name = around[inside] if inside >= 0 else -1
        if name == number:
            name = around[containers[inside].parent] if containers[inside].parent >= 0 else -1
        if name >= 0:
            above[number] = name
    return above
