"""Structured text: which units may be kept of it, and what keeps the rest well formed."""

from __future__ import annotations

from importlib import import_module

from ctxshaper.data import Passage
from ctxshaper.data.formats import Format, is_json
from ctxshaper.text.remembered import Lately
from ctxshaper.text.structures.tree import Container, Leaf, Structure

__all__ = ["Container", "Leaf", "Structure", "structure_of"]

# Where each format's tree is built. Imported at first use: the command line has to answer at once.
_BUILDERS: dict[Format, tuple[str, str]] = {
    "json": ("json_tree", "json_structure"),
    "html": ("html_tree", "html_structure"),
    "python": ("code_tree", "python_structure"),
    "code": ("code_tree", "block_structure"),
    "mail": ("mail_tree", "mail_structure"),
    "prose": ("fences", "fenced_structure"),
}
# Characters of sources whose structures are kept for the next request; of JSON, they take some 50 times as many bytes.
_CHARACTERS = 2**22
_KNOWN: Lately[tuple[Format, str], tuple[Structure | None]] = Lately(_CHARACTERS)


def structure_of(passage: Passage) -> Structure | None:
    """The structure of a passage's source by its format; None where its sentences and blocks are all there is."""
    name, cost = (passage.format, passage.source), len(passage.source)
    known = _KNOWN.get(name, cost)
    if known is None:
        found = _built(passage.format, passage.source)
        # A text that is not what it is said to be has no units, and is cut like any other.
        known = (found if found and found.units else None,)
        _KNOWN.put(name, known, cost)
    return known[0]


def _built(kind: Format, source: str) -> Structure | None:
    if (
        kind not in _BUILDERS
        or (kind == "json" and not is_json(source))
        or (kind == "prose" and "```" not in source and "~~~" not in source)
    ):
        return None
    module, function = _BUILDERS[kind]
    found: Structure | None = getattr(import_module(f"{__name__}.{module}"), function)(source)
    return found
