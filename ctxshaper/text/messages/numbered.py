"""Numbered and titled blocks, as templates write passages: `[1] ...`, `Document 2: ...`, `Source:` with `Content:`."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from ctxshaper.data import Span
from ctxshaper.text.messages.layout import Layout, Sibling, Slot

_WORDS = (
    "documents?|docs?|passages?|sources?|chunks?|contexts?|(?:search[ _-])?results?|snippets?|references?|refs?|"
    "excerpts?|articles?|texts?|pages?|nodes?|citations?|dokument|quelle|abschnitt|extrait|fuente|documento|pasaje|fragmento"
)
# All repetitions are bounded: a line is looked at once, whatever it is.
_LABEL = re.compile(
    r"^[ \t]{0,8}(?:[#*>]{1,6}[ \t]?|-{1,6}[ \t])?(?:"
    rf"\[(?P<bare>\d{{1,4}})\][.:)]?|\[?[ \t]?(?P<word>{_WORDS})[ \t_]{{0,2}}#?[\[(]?(?P<number>\d{{1,4}})"
    r"(?:[\])]{0,2}\*{0,2}(?:[:.)]|[ \t]?[-–—][ \t-]|[ \t]{0,3}(?=$|\(title:))|[\])]{1,2})\*{0,2}"
    r")[ \t]{0,4}",
    re.IGNORECASE | re.MULTILINE,
)
_FIELDS = re.compile(
    r"^[ \t]{0,8}(?P<field>source|title|url|file|filename|document|name|quelle|titel|titre|fuente|título)[ \t]?:[ \t]?"
    r"(?P<title>[^\n]{0,300})\n(?:[A-Za-z][\w -]{0,30}:[^\n]{0,300}\n){0,4}?"
    r"[ \t]{0,8}(?:page[ _]?content|content|text|snippet|body|passage|excerpt|inhalt|contenu|contenido|texto)"
    r"[ \t]?:[ \t]{0,4}",
    re.IGNORECASE | re.MULTILINE,
)
# What a template puts behind its last passage.
_BEHIND = re.compile(
    r"^[ \t]{0,8}(?:[#*>]{1,6}[ \t]?)?(?:(?:(?:user|my|the|your)[ ]?)?(?:question|query|input|task|instructions?"
    r"|request|answer|response)|human|user|assistant|frage|antwort|réponse|pregunta|respuesta)[ \t]?\*{0,2}[ \t]?:"
    r"|^[ \t]{0,8}(?:={3,}|-{3,}|#{1,6}[ \t]|</)|^(?:based on|using|given|answer|please)\b[^\n]{0,200}\b"
    r"(?:context|above|documents?|passages?|sources?|question)\b",
    re.IGNORECASE | re.MULTILINE,
)
_BLANK = re.compile(r"\n[ \t]{0,20}\r?\n")
_TITLE = re.compile(r"\(title:[ \t]{0,4}([^\n]{1,200}?)\)[ \t]{0,4}", re.IGNORECASE)
_LONGEST_TITLE = 120


class _Label(NamedTuple):
    start: int
    end: int
    title: str


def numbered_layout(text: str, *, closed: bool) -> Layout | None:
    """The passages of a text that numbers them or names their sources, at least two in order; None for any other.

    Args:
        text: any.
        closed: whether passages are all there is, so that the last one goes on to the end; else what stands behind the
            last one, such as a question, is told apart.
    """
    labels = _numbered(text) or _titled(text)
    if len(labels) < 2:
        return None
    ends = [_trimmed(text, a.end, b.start) for a, b in pairwise(labels)]
    last = labels[-1]
    inner = any(_BLANK.search(text, label.end, end) for label, end in zip(labels, ends, strict=False))
    ends.append(_trimmed(text, last.end, len(text) if closed else _last_end(text, last.end, inner)))
    slots: list[Slot] = []
    row: list[Sibling] = []
    for label, end in zip(labels, ends, strict=True):
        start, title = _behind_title(text, label, end)
        empty = start >= end
        row.append(Sibling(Span(label.start, end), None if empty else len(slots)))
        if not empty:
            slots.append(Slot(Span(start, end), title))
    return Layout(text, tuple(slots), (tuple(row),)) if len(slots) > 1 else None


def _numbered(text: str) -> list[_Label]:
    """The labels of the first kind that counts on from one block to the next."""
    runs: dict[str, list[tuple[int, _Label]]] = {}
    for match in _LABEL.finditer(text):
        kind = (match["word"] or "").lower().removesuffix("s")
        number = int(match["number"] or match["bare"])
        run = runs.setdefault(kind, [])
        first = kind != "" or number <= 1  # a bare [7] that begins a line is a reference
        if run and number == run[-1][0] + 1:
            run.append((number, _Label(match.start(), match.end(), "")))
        elif len(run) < 2 and first:
            run[:] = [(number, _Label(match.start(), match.end(), ""))]
    found = [[label for _, label in run] for run in runs.values() if len(run) > 1]
    return min(found, key=lambda run: run[0].start, default=[])


def _titled(text: str) -> list[_Label]:
    """The labels of blocks that begin with the same field, such as their source."""
    runs: dict[str, list[_Label]] = {}
    for match in _FIELDS.finditer(text):
        runs.setdefault(match["field"].lower(), []).append(_Label(match.start(), match.end(), match["title"].strip()))
    return max(runs.values(), key=len, default=[])


def _behind_title(text: str, label: _Label, end: int) -> tuple[int, str]:
    """Where the text of a block begins, and its title: said by its label, or a short first line without a stop."""
    start, title = label.end, label.title
    if match := _TITLE.match(text, start):
        start, title = match.end(), match[1].strip()
    elif not title:
        line = text.find("\n", start, end)
        first = text[start : line if line >= 0 else start].strip(" \t\r*")
        if first and len(first) <= _LONGEST_TITLE and first[-1] not in ".!?。！？…,;":
            start, title = line + 1, first
    while start < end and text[start].isspace():
        start += 1
    return start, title


def _last_end(text: str, start: int, blank_inside: bool) -> int:
    """Where the last block ends: before what templates put behind it, or by its paragraphs as the others have them."""
    behind = _BEHIND.search(text, start)
    end = behind.start() if behind else len(text)
    breaks = [match.start() for match in _BLANK.finditer(text, start, _trimmed(text, start, end))]
    if behind and blank_inside:
        return end
    if breaks:  # where the others have several paragraphs, the last one may be the question
        return breaks[-1] if blank_inside else breaks[0]
    return end


def _trimmed(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
