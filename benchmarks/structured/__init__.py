"""Structured documents: evidence kept, and whether what is left still parses, beside BM25 by line and by chunk.

Seven kinds, at least ten documents each; see `benchmarks.structured.documents`. Every method fills the same share of
the document's tokens. Evidence counts as kept if all of it stands in the output.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser

from benchmarks.structured.documents import Entry, entries
from benchmarks.table import Table
from ctxshaper import Parts, Passage, Pipeline
from ctxshaper.ranking.lexical import bm25

SHARES = ("15%", "30%")
_CHUNK = 512
# Elements whose end HTML lets authors leave out, and those that have none.
_OPTIONAL = {
    "li",
    "p",
    "td",
    "th",
    "tr",
    "dt",
    "dd",
    "thead",
    "tbody",
    "option",
    "br",
    "hr",
    "img",
    "meta",
    "link",
    "input",
}


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--kinds", nargs="+", help="only these")
    parser.add_argument("--methods", nargs="+", default=("",), help="those whose name contains one of these")
    parser.add_argument("--verbose", action="store_true", help="say what is lost")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Evidence and parsing by kind and method."""
    asked = [entry for entry in entries() if not arguments.kinds or entry.kind in arguments.kinds]
    parts = Parts()
    methods: dict[str, Callable[[Entry, str], str]] = {
        "fast": _recipe("fast", parts),
        "qa": _recipe("qa", parts),
        "BM25 by line": lambda entry, share: _best(entry, share, entry.text.splitlines(keepends=True), parts),
        "BM25 by 512 characters": lambda entry, share: _best(
            entry, share, [entry.text[at : at + _CHUNK] for at in range(0, len(entry.text), _CHUNK)], parts
        ),
    }
    kinds = list(dict.fromkeys(entry.kind for entry in asked))
    tables = []
    for share in SHARES:
        kept: dict[str, dict[str, float]] = {}
        sound: dict[str, dict[str, float]] = {}
        for name, method in methods.items():
            if not any(part in name for part in arguments.methods):
                continue
            outputs = [(entry, method(entry, share)) for entry in asked]
            hits = {kind: [_kept(e, text) for e, text in outputs if e.kind == kind] for kind in kinds}
            parsed = {kind: [parses(kind, text) for e, text in outputs if e.kind == kind] for kind in kinds}
            kept[name], sound[name] = _means(hits), _means(parsed)
            for entry, text in outputs:
                if arguments.verbose and not (_kept(entry, text) and parses(entry.kind, text)):
                    said = "does not parse" if _kept(entry, text) else "lost"
                    print(f"{said} by {name} at {share}: {entry.kind}, {entry.question}", file=sys.stderr, flush=True)
        tables += [Table(f"evidence kept at {share}", kept), Table(f"still parses at {share}", sound)]
    return [*tables, Table("questions", {kind: {"": sum(e.kind == kind for e in asked)} for kind in kinds})]


def _recipe(name: str, parts: Parts) -> Callable[[Entry, str], str]:
    pipeline = Pipeline.from_recipe(name, reader=parts.reader, embedder=parts.embedder)
    return lambda entry, share: pipeline.shape(entry.question, [Passage(entry.text)], share).text


def _best(entry: Entry, share: str, pieces: Sequence[str], parts: Parts) -> str:
    """The best pieces by BM25 that fit together, in their order."""
    room = float(share.rstrip("%")) / 100 * parts.count(entry.text)
    scores = bm25(entry.question, list(pieces))
    chosen: list[int] = []
    for place in sorted(range(len(pieces)), key=lambda place: -scores[place]):
        if parts.count("".join(pieces[p] for p in sorted([*chosen, place]))) > room:
            break
        chosen.append(place)
    return "".join(pieces[place] for place in sorted(chosen))


def _kept(entry: Entry, text: str) -> bool:
    return all(" ".join(piece.split()) in " ".join(text.split()) for piece in entry.evidence)


def _means(by_kind: dict[str, list[bool]]) -> dict[str, float]:
    every = [value for values in by_kind.values() for value in values]
    return {**{kind: sum(values) / len(values) for kind, values in by_kind.items()}, "all": sum(every) / len(every)}


def parses(kind: str, text: str) -> bool:
    """Whether a document of this kind is still one."""
    if not text:
        return False
    try:
        if kind == "JSON":
            _json(text)
        elif kind == "CSV":
            rows = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in text else ",", strict=True))
            return len({len(row) for row in rows}) == 1
        elif kind == "Python":
            ast.parse(text)
        elif kind == "HTML":
            return _Balanced.of(text)
        elif kind == "Markdown":
            return sum(line.startswith("```") for line in text.splitlines()) % 2 == 0
    except (ValueError, SyntaxError, csv.Error):
        return False
    return True


def _json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError:
        for line in text.splitlines():
            json.loads(line)


class _Balanced(HTMLParser):
    """Whether every end tag closes what is open, and everything that must be closed is."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sound = True

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        """Open."""
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close what is open, and what may be left open inside."""
        while self.open and self.open[-1] != tag and self.open[-1] in _OPTIONAL:
            self.open.pop()
        self.sound &= bool(self.open) and self.open.pop() == tag

    @classmethod
    def of(cls, text: str) -> bool:
        """Whether a text is balanced."""
        parser = cls()
        parser.feed(text)
        parser.close()
        return parser.sound and all(tag in _OPTIONAL for tag in parser.open)
