"""From what an answer says back to the characters of the source that say it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ctxshaper.data import Context, Span, shown
from ctxshaper.errors import InvalidInputError

# A run of fewer words that an answer shares with a passage is more likely grammar than a quotation.
_SHORTEST_RUN = 4
_WORD = re.compile(r"\w+")
_EDGES = " \t\r\n.,;:!?\"'“”‘’«»()[]"


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a source says what an answer says.

    Attributes:
        passage: its place in what the generator was given, counted from 0.
        id: the passage's id, if it has one.
        rank: its place in the retriever's list, counted from 0, if known.
        spans: ranges of the passage's source; several where text between them was dropped.
        quotes: what the source says there, byte for byte; empty where `generated` is true.
        exact: whether the whole answer span was found, up to case and white space; otherwise its longest run of words.
        generated: whether a language model wrote the passage's text: the spans then support it as a whole.
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
        record: how it arises from its source; what `records.record` makes.
        id: the passage's id.
        passage: its place in what the generator was given.
        start: where it lies in the rendered context; 0 outside of one.
        lost: characters in front of the text that are not rendered.
    """

    text: str
    record: Mapping[str, Any]
    id: str | None
    passage: int
    start: int = 0
    lost: int = 0


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
        spans = list(passage.spans) if passage.generated else shown(passage.source, passage.spans)
        record = {
            "spans": [[s.start, s.end] for s in spans],
            "ellipsis": context.rendering.ellipsis,
            "rank": passage.rank,
            "generated": passage.generated,
        }
        start = position + len(head)
        position = start + len(body) + len(context.rendering.separator)
        # What the body lost in front still counts in its spans.
        yield Block(body, record, passage.id, index, start, lost)


def find(blocks: Iterable[Block], answer_span: str | Span) -> Citation | None:
    """As `map_citation`, over any texts. A range counts in their rendering."""
    known = list(blocks)
    if isinstance(answer_span, Span):
        end = max((block.start + len(block.text) for block in known), default=0)
        if not len(answer_span) or answer_span.end > end:
            raise InvalidInputError(f"{answer_span} is empty or lies outside of a text of {end} characters")
        for block in known:
            low = max(answer_span.start - block.start, 0)
            high = min(answer_span.end - block.start, len(block.text))
            if low < high:
                return _citation(block, low, high, exact=high - low == len(answer_span))
        return None
    words = answer_span.strip()
    if not words:
        raise InvalidInputError("the answer span is empty; pass words of the answer")
    for block in known:
        if (place := block.text.find(words)) >= 0:
            return _citation(block, place, place + len(words), exact=True)
    bare = words.strip(_EDGES) or words
    pattern = re.compile(r"\s+".join(map(re.escape, bare.split())), re.IGNORECASE)
    for block in known:
        if match := pattern.search(block.text):
            return _citation(block, match.start(), match.end(), exact=True)
    return _longest_run(known, words)


def _longest_run(blocks: Sequence[Block], answer: str) -> Citation | None:
    wanted = [w.casefold() for w in _WORD.findall(answer)]
    best: tuple[int, Block, int, int] | None = None
    for block in blocks:
        words = list(_WORD.finditer(block.text))
        matcher = SequenceMatcher(None, wanted, [w[0].casefold() for w in words], autojunk=False)
        run = matcher.find_longest_match()
        if run.size >= _SHORTEST_RUN and (best is None or run.size > best[0]):
            best = (run.size, block, words[run.b].start(), words[run.b + run.size - 1].end())
    return _citation(*best[1:], exact=False) if best else None


def _citation(block: Block, start: int, end: int, *, exact: bool) -> Citation | None:
    pieces = list(through(block.record, start + block.lost, end + block.lost))
    if not pieces:  # the range holds nothing but marks of dropped text
        return None
    generated = any(at is None for _, at in pieces)
    text = "\n" * block.lost + block.text
    return Citation(
        passage=block.passage,
        id=block.id,
        rank=block.record.get("rank"),
        spans=tuple(span for span, _ in pieces),
        quotes=() if generated else tuple(text[at : at + len(span)] for span, at in pieces if at is not None),
        exact=exact,
        generated=generated,
    )


def through(record: Mapping[str, Any], start: int, end: int) -> Iterator[tuple[Span, int | None]]:
    """Ranges of the source behind a range of a shaped text, each with where it stands in the text.

    A text that was shaped twice is followed through both; one that an LM wrote gives all its support, standing
    nowhere.
    """
    position = 0
    for a, b in record["spans"]:
        low, high = max(start, position), min(end, position + b - a)
        if record.get("generated"):
            span, at = Span(a, b), None
        elif low < high:
            span, at = Span(a + low - position, a + high - position), low
        else:
            span, at = Span(a, a), None
        if len(span) and "before" in record:
            for origin, within in through(record["before"], span.start, span.end):
                yield origin, None if within is None or at is None else at + within - span.start
        elif len(span):
            yield span, at
        position += b - a + len(record["ellipsis"])
