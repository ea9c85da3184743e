"""Numbers such as [2] in an answer, where the context was rendered with numbers as labels."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from ctxshaper.connectors.blocks.chat_documents import cite_within
from ctxshaper.connectors.citations import Citation, context_blocks
from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.text.segments import sentences

# [2], [1, 3] and [1][2], in ASCII or full-width brackets.
_LABEL = re.compile(r"[\[【]\d{1,6}(?:[ ]?[,;，][ ]?\d{1,6}){0,20}[\]】]")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class NumberedCitation:
    """What one number in an answer points at.

    Attributes:
        number: as the answer says it.
        at: the words of the answer that it stands behind: its sentence, or what of it follows the number before.
        citation: where the passage of this number says it; None where the context has no such number.
    """

    number: int
    at: Span
    citation: Citation | None


def map_numbers(shaped: Context, answer: str) -> list[NumberedCitation]:
    """Find the sources of an answer that cites by number, such as `It opened in 1931 [2].`.

    The words in front of a number are looked for in the passage of that number, as `map_citation` does; where it does
    not repeat them, all of what is kept of it is cited and `exact` is false.

    Args:
        shaped: the context that the generator read, rendered with `label="number"`.
        answer: the generator's words.

    Returns:
        One entry for each number, in the order of the answer; a number that a model made up has no citation.

    Raises:
        InvalidInputError: the context was rendered without numbers.
    """
    if shaped.rendering.label != "number":
        raise InvalidInputError(
            f"numbers mean something where they label the passages, but the label is {shaped.rendering.label!r}; "
            'use Pipeline(..., rendering=Rendering(label="number"))'
        )
    blocks = {block.passage + 1: block for block in context_blocks(shaped)}
    starts = [sentence.start for sentence in sentences(answer)]
    found: list[NumberedCitation] = []
    at, reached = Span(0, 0), 0
    for label in _LABEL.finditer(answer):
        sentence = starts[bisect_right(starts, label.start()) - 1]
        words = _words(answer, max(sentence, reached), label.start())
        if not words and sentence == label.start():  # behind its sentence's full stop
            words = _words(answer, max(starts[max(bisect_right(starts, sentence) - 2, 0)], reached), label.start())
        at, reached = words or at, label.end()
        said = answer[at.start : at.end]
        for digits in _NUMBER.findall(label[0]):
            block = blocks.get(int(digits))
            found.append(NumberedCitation(int(digits), at, cite_within(block, said) if block else None))
    return found


def _words(answer: str, start: int, end: int) -> Span | None:
    """The range without white space and marks around it; None where no word is left."""
    while start < end and not answer[start].isalnum():
        start += 1
    while end > start and answer[end - 1].isspace():
        end -= 1
    return Span(start, end) if start < end else None
