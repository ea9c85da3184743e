"""Passages in tags, as templates write them: `<context>`, `<documents><document index="1">`, `<source>`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from ctxshaper.data import Span
from ctxshaper.text.messages.json_lists import json_layout
from ctxshaper.text.messages.layout import Layout, Sibling, Slot
from ctxshaper.text.messages.numbered import numbered_layout

# All repetitions are bounded, so that a text is looked at once, whatever it is.
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z_-]{0,40}?)(?:[_-]?\d{1,4})?(\s[^<>]{0,400})?>")
_ATTRIBUTE = re.compile(r"\s(?:title|name|source|file|path|url)\s{0,4}=\s{0,4}[\"']([^\"'<>]{1,200})[\"']")
_ONE = {"document", "doc", "passage", "source", "chunk", "snippet", "excerpt", "result", "search_result",
        "search-result", "reference", "retrieved_document", "retrieved_chunk"}  # fmt: skip
_MANY = {"context", "knowledge", "retrieved_context", "retrieved-context", "retrieval", "knowledge_base",
         "background", *(f"{name}s" for name in _ONE), "contexts", "retrieved"}  # fmt: skip
# Inside of one: its text, and what is said about it.
_CONTENT = {"document_content", "document_contents", "content", "text", "page_content", "body", "passage_text"}
_ABOUT = {"source", "title", "name", "url", "id", "metadata", "date", "author", "score", "index"}
_TITLES = ("title", "name", "source", "url")
_KNOWN = _ONE | _MANY | _CONTENT | _ABOUT
_DEEPEST = 8
_LONGEST_TITLE = 200


@dataclass(slots=True)
class _Element:
    name: str
    attributes: str
    open: Span
    close: Span
    inside: list[_Element] = field(default_factory=list)

    @property
    def inner(self) -> Span:
        return Span(self.open.end, self.close.start)


@dataclass
class _Builder:
    text: str
    slots: list[Slot] = field(default_factory=list)
    rows: list[list[Sibling]] = field(default_factory=list)
    joins: bool = False  # whether the next sibling may stand in the row of the last one

    def add(self, element: Span, slot: Slot) -> None:
        """Take a passage; what stands beside another with nothing but white space between is its sibling."""
        before = self.rows[-1][-1].span.end if self.joins else 0
        if not self.joins or self.text[before : element.start].strip():
            self.rows.append([])
        self.rows[-1].append(Sibling(element, len(self.slots)))
        self.slots.append(slot)
        self.joins = True

    def take(self, layout: Layout) -> None:
        """Take the passages that a text inside of an element holds."""
        base = len(self.slots)
        self.slots += layout.slots
        self.rows += [[s._replace(slot=None if s.slot is None else s.slot + base) for s in r] for r in layout.rows]
        self.joins = False


def tagged_layout(text: str) -> Layout | None:
    """The passages of a text that stand in tags which templates use for them; None where there are none. Linear."""
    if "</" not in text:
        return None
    elements = _elements(text)
    if elements is None:
        return None
    built = _Builder(text)
    regions = []
    for element in elements:
        if element.name in _ONE or element.name in _MANY:
            found = len(built.slots)
            _read(built, element)
            if len(built.slots) > found:
                regions.append(Span(element.open.start, element.close.end))
    if not built.slots:
        return None
    return Layout(text, tuple(built.slots), tuple(map(tuple, built.rows)), tuple(regions))


def _read(built: _Builder, element: _Element) -> None:
    """The passages of an element: those of the elements inside of it, or its own text."""
    content = next((e for e in element.inside if e.name in _CONTENT), None)
    inside = [e for e in element.inside if e.name in _ONE or e.name in _MANY]
    if element.name in _ONE:
        inside = [e for e in inside if e.name not in _ABOUT]
    if inside and (content is None or element.name in _MANY):
        built.joins = False
        for one in inside:
            _read(built, one)
        built.joins = False
        return
    span = element.inner if content is None else content.inner
    if content is None and element.name in _ONE:
        for about in element.inside:  # lines about it stand before its text
            if built.text[span.start : about.open.start].strip():
                break
            span = Span(about.close.end, span.end)
    span = _stripped(built.text, span)
    if not span:
        return
    if element.name in _MANY and content is None:
        held = built.text[span.start : span.end]
        layout = json_layout(held) or numbered_layout(held, closed=True)
        if layout is not None:
            built.take(layout.moved(built.text, span.start))
            return
    built.add(Span(element.open.start, element.close.end), Slot(span, _title(built.text, element)))


def _title(text: str, element: _Element) -> str:
    for name in _TITLES:
        for about in element.inside:
            if about.name == name and len(about.inner) <= _LONGEST_TITLE:
                return " ".join(text[about.inner.start : about.inner.end].split())
    found = _ATTRIBUTE.search(element.attributes)
    return found[1].strip() if found else ""


def _elements(text: str) -> list[_Element] | None:
    """The outermost elements of known names that close, each with those inside; None where they nest too deeply.

    A tag that does not close is text, and so is one that closes nothing.
    """
    closed: list[_Element] = []
    stack: list[tuple[str, str, Span]] = []
    names: Counter[str] = Counter()
    for match in _TAG.finditer(text):
        name = match[2].lower()
        if name not in _KNOWN or (match[3] or "").endswith("/"):
            continue
        span = Span(*match.span())
        if not match[1]:
            stack.append((name, match[3] or "", span))
            names[name] += 1
        elif names[name]:
            while True:
                opened, attributes, start = stack.pop()
                names[opened] -= 1
                if opened == name:
                    closed.append(_Element(name, attributes, start, span))
                    break
    top: list[_Element] = []
    around: list[_Element] = []
    for element in sorted(closed, key=lambda e: e.open.start):
        while around and around[-1].close.end <= element.open.start:
            around.pop()
        (around[-1].inside if around else top).append(element)
        around.append(element)
        if len(around) > _DEEPEST:
            return None
    return top


def _stripped(text: str, span: Span) -> Span:
    start, end = span.start, span.end
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return Span(start, end)
