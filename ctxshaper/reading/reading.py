"""What a reading found: a score for every token of every passage, and from it for any span."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage, Span
from ctxshaper.reading.abstention import Abstention

Reduce = Literal["mean", "sum", "max"]


@dataclass(frozen=True)
class PassageReading:
    """The tokens of one passage and how relevant the reader finds them.

    Attributes:
        offsets: [n, 2] character offsets in the passage's source, half-open, ascending.
        scores: [n] float32, one score per token; for attention mass, at least 0.
    """

    offsets: NDArray[np.int64]
    scores: NDArray[np.float32]

    def tokens_of(self, spans: Sequence[Span]) -> NDArray[np.int64]:
        """The span to which each token belongs: the one that holds its last character.

        Args:
            spans: sorted and disjoint.

        Returns:
            [n] indices into `spans`; -1 for tokens of none.
        """
        if not spans or not len(self.scores):
            return np.full(len(self.scores), -1, dtype=np.int64)
        starts = np.array([s.start for s in spans])
        ends = np.array([s.end for s in spans])
        # A token may begin with the white space that ends the previous sentence: its last character decides.
        last = np.maximum(self.offsets[:, 1] - 1, self.offsets[:, 0])
        index = np.searchsorted(starts, last, side="right") - 1
        inside = (index >= 0) & (last < ends[np.maximum(index, 0)])
        return np.where(inside, index, -1)

    def span_scores(self, spans: Sequence[Span], reduce: Reduce = "mean") -> NDArray[np.float64]:
        """One score per span from those of its tokens.

        Args:
            spans: sorted and disjoint.
            reduce: mean, sum or max over the span's tokens.

        Returns:
            [len(spans)] float64; 0 for a span without tokens.
        """
        index = self.tokens_of(spans)
        own, scores = index[index >= 0], self.scores[index >= 0].astype(np.float64)
        if reduce == "max":
            result = np.zeros(len(spans))
            np.maximum.at(result, own, scores)
            return result
        result = np.bincount(own, weights=scores, minlength=len(spans)).astype(np.float64)
        if reduce == "mean":
            result /= np.maximum(np.bincount(own, minlength=len(spans)), 1)
        return result

    def span_tokens(self, spans: Sequence[Span]) -> NDArray[np.int64]:
        """Number of the reader's tokens in each span."""
        index = self.tokens_of(spans)
        return np.bincount(index[index >= 0], minlength=len(spans)).astype(np.int64)


class PassageReadings(Sequence[PassageReading]):
    """The readings of many passages, each made when it is looked at: of thousands, few may be.

    Args:
        count: how many there are.
        make: makes one by its place.
    """

    def __init__(self, count: int, make: Callable[[int], PassageReading]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> PassageReading: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[PassageReading, ...]: ...

    def __getitem__(self, at: int | slice) -> PassageReading | tuple[PassageReading, ...]:
        if isinstance(at, slice):
            return tuple(map(self._make, range(self._count)[at]))
        return self._make(range(self._count)[at])

    def __iter__(self) -> Iterator[PassageReading]:
        return map(self._make, range(self._count))

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)


@dataclass(frozen=True)
class Reading:
    """One query over many passages.

    Attributes:
        query: the query.
        passages: one entry per passage, in the order given.
        notes: what it took, for the trace; plain JSON data: how many passages were in memory (`cache_hits`), came from
            the store (`from_store`) or were read (`cache_misses`), and `milliseconds`, of which `query_milliseconds`
            went to the query's own pass and `prefill_milliseconds` to reading passages.
        on_prefix: the share of the query's attention that stayed on the prompt's prefix, in [0, 1]: much where no
            passage draws it; None where it is not known.
        abstention: what turns that into the probability that any passage answers; None where it was not calibrated.
    """

    query: str
    passages: Sequence[PassageReading]
    notes: Mapping[str, Any]
    on_prefix: float | None = None
    abstention: Abstention | None = None

    def passage_scores(self, reduce: Reduce = "mean") -> NDArray[np.float64]:
        """[number of passages] one score per passage."""
        return np.array([float(getattr(p.scores, reduce)()) if len(p.scores) else 0.0 for p in self.passages])


@dataclass(frozen=True)
class Screening:
    """How much passages look as if they gave orders to the model.

    Attributes:
        passages: one entry per passage, in the order given; scores of any sign, higher is more suspect.
        headings: of each passage the mean score of its title's tokens, a short one's drawn towards 0; minus infinity
            for one without a title.
        threshold: a sentence whose tokens score more than this in the mean is taken for an instruction to the model.
        notes: what it took, as in a `Reading`.
    """

    passages: Sequence[PassageReading]
    headings: Sequence[float]
    threshold: float
    notes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remembered:
    """What became of one group of passages, or of several together (`+`).

    Attributes:
        passages: how many; those without text do not count.
        known: those of them that had been read before, or say the same as another.
        characters: of their sources.
        tokens: of all, headings included; where windows of a long passage overlap, of both.
        read_tokens: those that the model read for it.
        read_windows: the texts that it read; a long passage has several.
    """

    passages: int = 0
    known: int = 0
    characters: int = 0
    tokens: int = 0
    read_tokens: int = 0
    read_windows: int = 0

    def __add__(self, other: Remembered) -> Remembered:
        return Remembered(
            self.passages + other.passages,
            self.known + other.known,
            self.characters + other.characters,
            self.tokens + other.tokens,
            self.read_tokens + other.read_tokens,
            self.read_windows + other.read_windows,
        )


class PassageReader(Protocol):
    """Whatever scores the tokens of passages for a query: `Reader`, or `FakeReader` in tests. Thread-safe."""

    def read(self, query: str, passages: Sequence[Passage | str]) -> Reading:
        """A score for every token of every passage: how much the query attends to it; at least 0.

        Args:
            query: the user's question.
            passages: whose whole `source` is read, with the title in front.
        """
        ...

    def read_gem(
        self, query: str, passages: Sequence[Passage | str], *, independent: bool = False, calibrated: bool = False
    ) -> Reading:
        """A score for every token of every passage by GemFilter's rule (arXiv 2409.17422, section 3).

        Args:
            query: the user's question; stands last in the prompt.
            passages: in the order in which they are read.
            independent: read each passage by itself instead of the whole prompt causally.
            calibrated: subtract what a place in the prompt gets whatever stands there; causal reading only.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as this reader counts them."""
        ...

    def remember(self, passages: Iterable[Passage | str]) -> Remembered:
        """Read passages ahead of time, so that a later query finds them read."""
        ...
