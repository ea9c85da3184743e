"""From what an answer says back to the characters of the source that say it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ctxshaper.connectors.matching import find_loosely, longest_run
from ctxshaper.connectors.origins import Origin, placed_origins, within
from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a source says what an answer says.

    Attributes:
        passage: its place in what the generator was given, counted from 0.
        id: the passage's id, if it has one.
        rank: its place in the retriever's list, counted from 0, if known.
        spans: ranges of the passage's source: what the words repeat, or the support of the piece that they stand in
            where that was written. Several where the words lie in several pieces; none for a piece without support,
            such as a heading that was written.
        quotes: what the source says in the ranges that the words repeat, byte for byte.
        exact: whether the whole answer span was found, up to case and white space; otherwise its longest run of words.
        generated: whether a language model wrote any piece in which the words stand.
    """

    passage: int
    id: str | None
    rank: int | None
    spans: tuple[Span, ...]
    quotes: tuple[str, ...]
    exact: bool = True
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """One text that the generator was given.

    Attributes:
        text: as shaped.
        origins: how it arises from its source, in order.
        id: the passage's id.
        passage: its place in what the generator was given.
        rank: its place in the retriever's list, if known.
        start: where it lies in the rendered context; 0 outside of one.
    """

    text: str
    origins: tuple[Origin, ...]
    id: str | None
    passage: int
    rank: int | None = None
    start: int = 0


def map_citation(shaped: Context, answer_span: str | Span) -> Citation | None:
    """Find the source of an answer's words.

    Args:
        shaped: the context that the generator read.
        answer_span: words of the answer, or a range of `shaped.text`. Words are looked for as they stand, then
            without regard to case and white space, then by their longest run of at least 4 words. Where they occur
            several times, the first place in reading order counts.

    Returns:
        The citation, or None where the context does not say this.

    Raises:
        InvalidInputError: an empty answer span, or a range outside the text.
    """
    return find(context_blocks(shaped), answer_span)


def context_blocks(context: Context) -> Iterator[Block]:
    """The texts of a context, as they are rendered."""
    position = 0
    for index, head, lost, body in context.rendering.parts(context.passages):
        passage = context.passages[index]
        origins = within(placed_origins(passage.placed(context.rendering.ellipsis), -lost), 0, len(body))
        start = position + len(head)
        position = start + len(body) + len(context.rendering.separator)
        yield Block(body, tuple(origins), passage.id, index, passage.rank, start)


def find(blocks: Iterable[Block], answer_span: str | Span) -> Citation | None:
    """As `map_citation`, over any texts. A range counts in their rendering."""
    known = list(blocks)
    if isinstance(answer_span, Span):
        return _at(known, answer_span)
    words = answer_span.strip() if isinstance(answer_span, str) else ""
    if not words:
        raise InvalidInputError(f"the answer span must hold words of the answer, but got {answer_span!r:.80}")
    for block in known:
        if (place := block.text.find(words)) >= 0:
            return cite(block, Span(place, place + len(words)))
    texts = [block.text for block in known]
    if found := find_loosely(texts, words):
        return cite(known[found[0]], found[1])
    if found := longest_run(texts, words):
        return cite(known[found[0]], found[1], exact=False)
    return None


def _at(blocks: list[Block], wanted: Span) -> Citation | None:
    """The citation of a range of the rendered texts; of several texts' range, the part in the first."""
    end = max((block.start + len(block.text) for block in blocks), default=0)
    if not len(wanted) or wanted.end > end:
        raise InvalidInputError(f"{wanted} is empty or lies outside of a text of {end} characters")
    for block in blocks:
        low = max(wanted.start - block.start, 0)
        high = min(wanted.end - block.start, len(block.text))
        if low < high:
            return cite(block, Span(low, high), exact=high - low == len(wanted))
    return None


def cite(block: Block, at: Span, *, exact: bool = True) -> Citation | None:
    """The citation of a range of one text; None where it holds nothing but marks of dropped text."""
    found = list(within(block.origins, at.start, at.end))
    if not found:
        return None
    return Citation(
        passage=block.passage,
        id=block.id,
        rank=block.rank,
        # Two written pieces may share their support: it is named once.
        spans=tuple(dict.fromkeys(span for origin in found for span in origin.spans)),
        quotes=tuple(block.text[origin.start : origin.end] for origin in found if not origin.generated),
        exact=exact,
        generated=any(origin.generated for origin in found),
    )
