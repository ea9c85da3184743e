"""Finding an answer's words in texts: loosely, or by their longest run. All work is linear in texts and answer."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from ctxshaper.data import Span

# A run of fewer words that an answer shares with a passage is more likely grammar than a quotation.
SHORTEST_RUN = 4
_WORD = re.compile(r"\w+")
_SOLID = re.compile(r"\S+")
_EDGES = " \t\r\n.,;:!?\"'“”‘’«»()[]"


def find_loosely(texts: Iterable[str], words: str) -> tuple[int, Span] | None:
    """The first place of some words, whatever their case, the white space in them and the punctuation around them.

    Returns:
        The place of the text, and the range in it; None where no text holds the words.
    """
    wanted = _folded(words.strip(_EDGES) or words)
    for place, text in enumerate(texts):
        if (start := _folded(text).find(wanted)) >= 0:
            return place, _unfolded(text, start, start + len(wanted))
    return None


def longest_run(texts: Iterable[str], answer: str) -> tuple[int, Span] | None:
    """The longest run of words, whatever their case, that an answer shares with a text.

    Returns:
        The place of the text, and the range in it; the first of several, and None for runs below `SHORTEST_RUN` words.
    """
    runs = _Runs([word.casefold() for word in _WORD.findall(answer)])
    best, found = SHORTEST_RUN - 1, None
    for place, text in enumerate(texts):
        words = list(_WORD.finditer(text))
        size, last = runs.longest([word[0].casefold() for word in words])
        if size > best:
            best, found = size, (place, Span(words[last - size + 1].start(), words[last].end()))
    return found


def _folded(text: str) -> str:
    return " ".join(word.casefold() for word in _SOLID.findall(text))


def _unfolded(text: str, start: int, end: int) -> Span:
    """The range of a text behind a range of `_folded(text)`, which begins and ends in a word."""
    starts, words, position = list[int](), list(_SOLID.finditer(text)), 0
    for word in words:
        starts.append(position)
        position += len(word[0].casefold()) + 1

    def place(folded: int) -> int:
        number = bisect_right(starts, folded) - 1
        word, offset = words[number], folded - starts[number]
        if len(word[0].casefold()) == len(word[0]):
            return word.start() + offset
        for index, letter in enumerate(word[0]):  # "ß" becomes "ss": only letter by letter are the places known
            offset -= len(letter.casefold())
            if offset < 0:
                return word.start() + index
        return word.end() - 1

    return Span(place(start), place(end - 1) + 1)


class _Runs:
    """All runs of a list of words, as a suffix automaton: built and asked in linear time (Blumer et al., 1985).

    (`difflib.SequenceMatcher` is quadratic where words repeat.)
    """

    def __init__(self, words: Sequence[str]) -> None:
        # By state: transitions by word, the state of the longest suffix elsewhere, the length of its longest run.
        self._next: list[dict[str, int]] = [{}]
        self._link, self._length = [-1], [0]
        last = 0
        for word in words:
            last = self._extend(last, word)

    def longest(self, words: Sequence[str]) -> tuple[int, int]:
        """The length of the longest run that these words share, and the place of its last word."""
        state = size = best = last = 0
        for place, word in enumerate(words):
            while state and word not in self._next[state]:
                state = self._link[state]
                size = self._length[state]
            if word in self._next[state]:
                state, size = self._next[state][word], size + 1
            if size > best:
                best, last = size, place
        return best, last

    def _extend(self, last: int, word: str) -> int:
        """Add a word behind the state of all words so far."""
        new = self._add({}, self._length[last] + 1)
        state = last
        while state >= 0 and word not in self._next[state]:
            self._next[state][word] = new
            state = self._link[state]
        if state < 0:
            self._link[new] = 0
            return new
        target = self._next[state][word]
        if self._length[target] == self._length[state] + 1:
            self._link[new] = target
            return new
        copy = self._add(dict(self._next[target]), self._length[state] + 1)
        self._link[copy] = self._link[target]
        while state >= 0 and self._next[state].get(word) == target:
            self._next[state][word] = copy
            state = self._link[state]
        self._link[target] = self._link[new] = copy
        return new

    def _add(self, following: dict[str, int], length: int) -> int:
        self._next.append(following)
        self._link.append(-1)
        self._length.append(length)
        return len(self._next) - 1
