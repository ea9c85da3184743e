"""Where the text of one passage is cut into text blocks, the smallest units that an API cites."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ctxshaper.connectors.citations import Block
from ctxshaper.data import Context, Span
from ctxshaper.stages.units import by_passage, units_of


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    copied: bool
    says: bool


def sentence_starts(context: Context) -> list[list[int]]:
    """Where the kept sentences (records, members, statements) of each passage start in its source, in order."""
    units = units_of(context, "sentence")
    places = by_passage(units)
    return [
        sorted(units[place].span.start for place in places.get(index, ()) if units[place].written is None)
        for index in range(len(context.passages))
    ]


def text_ranges(block: Block, starts: Sequence[int]) -> list[Span]:
    """Cut a passage's text as it shows into kept sentences, written pieces and marks of dropped text.

    White space belongs to what stands before it, and what is copied without a letter or digit, such as a brace, to its
    neighbour: an API refuses text blocks without content, and nobody cites a brace.

    Args:
        block: the passage's text, with its origins.
        starts: where sentences start in its source.

    Returns:
        Ranges that tile the text, none of them blank.
    """
    result: list[_Part] = []
    for part in _parts(block, starts):
        last = result[-1] if result else None
        blank = not block.text[part.start : part.end].strip()
        mute = part.copied and not part.says
        if last and (blank or (last.copied and part.copied and (mute or not last.says))):
            result[-1] = replace(last, end=part.end, says=last.says or part.says)
        elif last and not block.text[last.start : last.end].strip():
            result[-1] = replace(part, start=last.start)
        else:
            result.append(part)
    return [Span(part.start, part.end) for part in result]


def _parts(block: Block, starts: Sequence[int]) -> Iterator[_Part]:
    text, reached, source_end = block.text, 0, -1
    cuts: list[tuple[int, bool]] = []  # where a part starts, and whether it is copied
    for origin in block.origins:
        if origin.start > reached:
            cuts.append((reached, False))
        goes_on = origin.start == reached and not origin.generated and origin.spans[0].start == source_end
        if not goes_on:
            cuts.append((origin.start, not origin.generated))
        if not origin.generated:
            span = origin.spans[0]
            first = (bisect_left if goes_on else bisect_right)(starts, span.start)
            inside = starts[first : bisect_left(starts, span.end)]
            cuts += [(origin.start + start - span.start, True) for start in inside]
        reached, source_end = origin.end, -1 if origin.generated else origin.spans[0].end
    if reached < len(text):
        cuts.append((reached, False))
    for place, (start, copied) in enumerate(cuts):
        end = cuts[place + 1][0] if place + 1 < len(cuts) else len(text)
        yield _Part(start, end, copied, any(map(str.isalnum, text[start:end])))
