"""A reader without a model, so that stages, pipelines and chains can be tested in milliseconds."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.reading import PassageReading, Reading, Remembered, Screening

# One word, or one character that is neither a word's nor white space: every text is cut in one pass.
_TOKEN = re.compile(r"\w+|[^\w\s]")
# What a token gets that shares nothing with the query: attention is never quite 0.
_FLOOR = 0.01
# Words that the fake takes for orders to a model; a sentence with a fourth of them is one.
_ORDERS = frozenset({"ignore", "disregard", "instructions", "previous", "prompt", "assistant"})
_SUSPECT = 1 / 4


class FakeReader:
    """Reads as `Reader` does, but scores tokens by the words that they share with the query. Loads nothing.

    A token is a word or a mark of punctuation. Words of the query score 1, all others 0.01; over all passages the
    scores are divided by their sum, as attention is. So results are the same on every machine, and do not depend on
    the order of passages. It pickles, copies and is safe to share between threads.

    Args:
        scripted: scores by word (in lower case), at least 0, which then count instead of those above whatever the
            query is.

    Raises:
        InvalidInputError: a scripted score below 0.
    """

    def __init__(self, scripted: Mapping[str, float] | None = None) -> None:
        self.scripted = dict(scripted or {})
        bad = {word: score for word, score in self.scripted.items() if not 0 <= score < float("inf")}
        if bad:
            raise InvalidInputError(f"scripted scores must be numbers of at least 0, but got {bad}")

    def read(self, query: str, passages: Sequence[Passage | str]) -> Reading:
        """Score every token of every passage; see `PassageReader.read`.

        Raises:
            InvalidInputError: an empty query.
        """
        return self._read(query, passages)

    def read_gem(
        self,
        query: str,
        passages: Sequence[Passage | str],
        *,
        independent: bool = False,  # noqa: ARG002  # the fake's tokens see nothing but the query
        calibrated: bool = False,  # noqa: ARG002
    ) -> Reading:
        """The same scores as `read`; see `PassageReader.read_gem`.

        Raises:
            InvalidInputError: an empty query.
        """
        return self._read(query, passages)

    def screen(self, passages: Sequence[Passage | str]) -> Screening:
        """See `Reader.screen`: words such as "ignore", "instructions" and "prompt" score 1, all others 0."""
        read = [Passage.of(passage) for passage in passages]
        found = []
        for passage in read:
            tokens = list(_TOKEN.finditer(passage.source))
            offsets = np.array([match.span() for match in tokens], dtype=np.int64).reshape(-1, 2)
            scores = np.array([match[0].lower() in _ORDERS for match in tokens], dtype=np.float32)
            found.append(PassageReading(offsets, scores))
        titles = [[float(word in _ORDERS) for word in re.findall(r"\w+", one.title.lower())] for one in read]
        headings = [sum(title) / len(title) if title else -math.inf for title in titles]
        return Screening(found, headings, _SUSPECT, {"cache_hits": 0, "cache_misses": len(read)})

    def count_tokens(self, text: str) -> int:
        """Words and marks of punctuation of a text."""
        return sum(1 for _ in _TOKEN.finditer(text))

    def remember(self, passages: Iterable[Passage | str]) -> Remembered:
        """Nothing to do but to refuse what is no passage, and to count the others."""
        given = [Passage.of(passage).source for passage in passages]
        return Remembered(passages=len(given), characters=sum(map(len, given)))

    def _read(self, query: str, passages: Sequence[Passage | str]) -> Reading:
        if not query.strip():
            raise InvalidInputError("the query is empty; pass the user's question")
        started = time.perf_counter()
        asked = {word[0].lower() for word in re.finditer(r"\w+", query)}
        raw = [self._tokens(asked, Passage.of(passage).source) for passage in passages]
        # Sorted, so that the order of passages does not change the sum's rounding.
        total = sum(sorted(float(scores.sum()) for _, scores in raw)) or 1.0
        read = tuple(PassageReading(offsets, (scores / total).astype(np.float32)) for offsets, scores in raw)
        notes = {
            "cache_hits": 0,
            "cache_misses": len(read),
            "milliseconds": 1e3 * (time.perf_counter() - started),
        }
        return Reading(query, read, notes)

    def _tokens(self, asked: set[str], source: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """[n, 2] offsets and [n] scores of a text's tokens."""
        found = list(_TOKEN.finditer(source))
        offsets = np.array([match.span() for match in found], dtype=np.int64).reshape(-1, 2)
        scores = [self._score(asked, match[0].lower()) for match in found]
        return offsets, np.array(scores, dtype=np.float64)

    def _score(self, asked: set[str], word: str) -> float:
        scripted = self.scripted.get(word)
        if scripted is not None:
            return scripted
        return 1.0 if word in asked else _FLOOR
