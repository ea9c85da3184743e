"""Triples of a knowledge graph as passages, and what is left of them after shaping: needs no framework."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError

# The key of a passage's metadata under which its triples stand, one for each line.
KEY = "triples"


class Triple(NamedTuple):
    """One edge of a knowledge graph. A plain tuple of three texts does as well.

    Attributes:
        subject: what the edge leaves.
        relation: what it is called.
        object: where it leads.
    """

    subject: str
    relation: str
    object: str


def triples_as_passages(triples: Iterable[Sequence[str]]) -> list[Passage]:
    """Write the triples of a knowledge graph as passages: one for each subject, in it one line for each triple.

    A line is an item of a list ("- Ada Moreau designed Ember Bridge"), so that stages keep or drop it by itself. It
    names its subject, although the title does: the same line under two subjects would count as said twice. By the
    titles `EvidenceFilter` follows edges: a likely line that names another subject makes that subject's lines likelier.

    Of the aspects of Amar (arXiv 2412.18537) these are the entities and, along the titles, the subgraphs. Its prompt
    embeddings have to be trained and are not built.

    Args:
        triples: (subject, relation, object) each, in this order. What a graph gives twice is written once.

    Returns:
        In the order in which their subjects first come; `metadata["triples"]` holds the triples as given.

    Raises:
        InvalidInputError: something that is no triple of texts, or an empty text among them.
    """
    groups: dict[str, dict[Triple, None]] = {}
    for given in triples:
        triple = _triple(given)
        groups.setdefault(triple.subject, {})[triple] = None
    return [
        Passage("\n".join(map(_line, group)), metadata={"title": _words(subject), KEY: tuple(group)})
        for subject, group in groups.items()
    ]


def kept_triples(shaped: Context | Iterable[Passage]) -> list[Triple]:
    """The triples of which a shaped context still says the whole line, or has a sentence written from it; each once.

    Args:
        shaped: what a pipeline gave of passages from `triples_as_passages`; other passages hold no triples.

    Returns:
        In reading order.

    Raises:
        InvalidInputError: a passage whose metadata does not fit its lines.
    """
    found: dict[Triple, None] = {}
    for passage in shaped.passages if isinstance(shaped, Context) else shaped:
        triples = [_triple(given) for given in passage.metadata.get(KEY, ())]
        lines = passage.source.split("\n") if triples else []
        if len(lines) != len(triples):
            raise InvalidInputError(
                f"a passage has {len(lines)} lines and {len(triples)} triples in its metadata; "
                "give passages as triples_as_passages made them, and their shaped versions"
            )
        start, kept = 0, iter(passage.spans)
        span = next(kept, None)
        for line, triple in zip(lines, triples, strict=True):
            end = start + len(line)
            while span is not None and span.end < end:
                span = next(kept, None)
            if span is not None and span.start <= start:
                found[triple] = None
            start = end + 1
    return list(found)


def _triple(given: Sequence[str]) -> Triple:
    parts = () if isinstance(given, str) or not isinstance(given, Sequence) else tuple(given)
    if len(parts) != 3 or not all(isinstance(part, str) and part.strip() for part in parts):
        raise InvalidInputError(
            f"a triple must be (subject, relation, object), three texts that are not empty, but got {given!r:.200}"
        )
    return Triple(*parts)


def _line(triple: Triple) -> str:
    """A triple as an item of a list; names such as `born_in` are read as words."""
    return f"- {_words(triple.subject)} {_words(triple.relation.replace('_', ' '))} {_words(triple.object)}"


def _words(text: str) -> str:
    """On one line."""
    return " ".join(text.split())
