"""Units: the pieces of text that are kept or dropped whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ctxshaper.data import Context, Kept, Passage, Span, Written, merge_spans
from ctxshaper.text.remembered import Lately
from ctxshaper.text.segments import blocks, sentences
from ctxshaper.text.structures import structure_of

UnitKind = Literal["sentence", "block", "passage"]

_SEGMENT: dict[str, Callable[[str], tuple[Span, ...]]] = {"sentence": sentences, "block": blocks}


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of text that is kept or dropped whole.

    Attributes:
        passage: index of its passage in the context.
        span: where it lies in the passage's source; of a written piece, from the first to the last of its support.
        written: the place of a written piece among its passage's pieces; None for text of the source.
        whole: whether it is all that the passage still says.
    """

    passage: int
    span: Span
    written: int | None = None
    whole: bool = False


# So much is said of the heading, record or table that a unit belongs to.
_NAME = 120
# Characters of sources whose segments and units are kept for the next request: more than 8,000 passages of one.
_CHARACTERS = 2**24
_KNOWN: Lately[tuple[str, str, str], tuple[Span, ...]] = Lately(_CHARACTERS)
_UNITS: Lately[tuple[str, int, str, str], list[Unit]] = Lately(_CHARACTERS)


def units_of(context: Context, kind: UnitKind) -> list[Unit]:
    """What may be kept or dropped of a context, in reading order: segments of the sources, within what is still kept.

    A written piece is one unit.
    """
    return [unit for index, passage in enumerate(context.passages) for unit in _units(index, passage, kind)]


def _units(index: int, passage: Passage, kind: UnitKind) -> list[Unit]:
    if kind != "passage" and len(passage.pieces) == 1 and passage.complete:
        return _whole(index, passage, kind)
    if not passage.text.strip():
        return []
    if kind == "passage":
        hull = Span(passage.spans[0].start, passage.spans[-1].end) if passage.spans else Span(0, 0)
        return [Unit(index, hull, whole=True)]
    segments, structure = _segments(passage, kind), structure_of(passage)
    units: list[Unit] = []
    at = 0
    for place, piece in enumerate(passage.pieces):
        if isinstance(piece, Written):
            support = piece.support or (Span(0, 0),)
            units.append(Unit(index, Span(support[0].start, support[-1].end), written=place))
            continue
        # Kept pieces come in order, and so do the segments: each is looked at about once.
        while at < len(segments) and segments[at].end <= piece.span.start:
            at += 1
        for number in range(at, len(segments)):
            segment = segments[number]
            if segment.start >= piece.span.end:
                break
            start, end = max(segment.start, piece.span.start), min(segment.end, piece.span.end)
            span = Span(start, end)
            if passage.source[start:end].strip() and (structure is None or structure.holds(span)):
                units.append(Unit(index, span))
    return units


def _segments(passage: Passage, kind: UnitKind) -> tuple[Span, ...]:
    """The segments of a source; a further query is mostly about the same sources."""
    name, cost = (kind, passage.format, passage.source), len(passage.source)
    spans = _KNOWN.get(name, cost)
    if spans is None:
        structure = structure_of(passage)
        spans = structure.units if structure else _SEGMENT[kind](passage.source)
        _KNOWN.put(name, spans, cost)
    return spans


def _whole(index: int, passage: Passage, kind: UnitKind) -> list[Unit]:
    """The units of a passage of which all is kept; not to be changed."""
    source = passage.source
    name, cost = (kind, index, passage.format, source), len(source)
    units = _UNITS.get(name, cost)
    if units is None:
        spans = (span for span in _segments(passage, kind) if source[span.start : span.end].strip())
        units = [Unit(index, span) for span in spans]
        _UNITS.put(name, units, cost)
    return units


def by_passage(units: Sequence[Unit]) -> dict[int, list[int]]:
    """The places of the units of each passage that has any, by the passage's index."""
    places: dict[int, list[int]] = {}
    for place, unit in enumerate(units):
        places.setdefault(unit.passage, []).append(place)
    return places


def text_of(context: Context, unit: Unit) -> str:
    """What a unit says."""
    passage = context.passages[unit.passage]
    if unit.whole:
        return passage.text
    if unit.written is not None:
        piece = passage.pieces[unit.written]
        return piece.text if isinstance(piece, Written) else ""
    return passage.source[unit.span.start : unit.span.end]


def titled_texts(context: Context, units: Sequence[Unit]) -> list[str]:
    """What each unit says, with its passage's title in front: how embeddings and BM25 compare it.

    Of HTML what a reader sees of it; of structured text the names of what it stands in, too.
    """
    heads = [f"{passage.title}: " if passage.title else "" for passage in context.passages]
    structures = [structure_of(passage) for passage in context.passages]
    texts = []
    for unit in units:
        text, structure = text_of(context, unit).strip(), structures[unit.passage]
        if structure is not None and unit.written is None and not unit.whole:
            if context.passages[unit.passage].format == "html":
                from ctxshaper.text.structures.html_tree import visible

                text = visible(text).strip()
            number = structure.unit_at(unit.span.start)
            if (over := structure.above.get(number)) is not None:
                name = context.passages[unit.passage].source[structure.units[over].start : structure.units[over].end]
                text = f"{name.strip()[:_NAME]}: {text}"
            if label := structure.labels.get(number):
                text = f"{label}: {text}"
        texts.append(heads[unit.passage] + text)
    return texts


def keep(context: Context, chosen: Sequence[Unit]) -> Context:
    """The context with only the chosen units, in the order of the passages; empty passages drop out."""
    spans: dict[int, list[Span]] = {}
    written: dict[int, list[int]] = {}
    whole = set()
    for unit in chosen:
        if unit.whole:
            whole.add(unit.passage)
        elif unit.written is not None:
            written.setdefault(unit.passage, []).append(unit.written)
        else:
            spans.setdefault(unit.passage, []).append(unit.span)
    kept = []
    for index in sorted({*whole, *spans, *written}):
        passage = context.passages[index]
        if index in whole or _is_all(passage, spans.get(index, ()), written.get(index, ())):
            kept.append(passage)  # a passage kept whole stays the object it was
        else:
            structure = structure_of(passage)
            chosen_spans = spans.get(index, [])
            wanted = structure.completed(chosen_spans) if structure else chosen_spans
            kept.append(passage.keep(wanted, written.get(index, ())))
    return context.with_passages(kept)


def _is_all(passage: Passage, spans: Sequence[Span], written: Sequence[int]) -> bool:
    if len(written) != sum(isinstance(piece, Written) for piece in passage.pieces) or not (spans or written):
        return False
    return merge_spans(spans) == merge_spans(piece.span for piece in passage.pieces if isinstance(piece, Kept))
