"""Structured text: which units may be kept of it, and what keeps the rest well formed."""

from __future__ import annotations

from collections.abc import Callable

from ctxshaper.data import Passage
from ctxshaper.data.formats import Format, is_json
from ctxshaper.text.remembered import Lately
from ctxshaper.text.structures.code_tree import block_structure, python_structure
from ctxshaper.text.structures.fences import fenced_structure
from ctxshaper.text.structures.html_tree import html_structure, runs, visible
from ctxshaper.text.structures.json_tree import json_structure
from ctxshaper.text.structures.mail_tree import mail_structure
from ctxshaper.text.structures.tree import Container, Leaf, Structure

__all__ = ["Container", "Leaf", "Structure", "runs", "structure_of", "visible"]

_BUILDERS: dict[Format, Callable[[str], Structure | None]] = {
    "json": lambda source: json_structure(source) if is_json(source) else None,
    "html": html_structure,
    "python": python_structure,
    "code": block_structure,
    "mail": mail_structure,
    "prose": lambda source: fenced_structure(source) if "```" in source or "~~~" in source else None,
}
# Characters of sources whose structures are kept for the next request; of JSON, they take some 50 times as many bytes.
_CHARACTERS = 2**22
_KNOWN: Lately[tuple[Format, str], tuple[Structure | None]] = Lately(_CHARACTERS)


def structure_of(passage: Passage) -> Structure | None:
    """The structure of a passage's source by its format; None where its sentences and blocks are all there is."""
    name, cost = (passage.format, passage.source), len(passage.source)
    known = _KNOWN.get(name, cost)
    if known is None:
        build = _BUILDERS.get(passage.format)
        found = build(passage.source) if build else None
        # A text that is not what it is said to be has no units, and is cut like any other.
        known = (found if found and found.units else None,)
        _KNOWN.put(name, known, cost)
    return known[0]
