"""The free places of an arena: taken first fit, joined when they are given back."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class FreeRuns:
    """Runs of free tokens in an arena of a fixed capacity. Not thread-safe.

    Attributes:
        free: tokens that are free altogether.
    """

    def __init__(self, capacity: int) -> None:
        self.free = capacity
        self._starts = [0] if capacity else []
        self._lengths = [capacity] if capacity else []

    def take(self, lengths: Sequence[int]) -> list[int] | None:
        """Places for passages of these lengths, or None, and nothing taken, where they do not fit.

        End to end in the first run that holds them all; else in one walk over the runs, each filled with as many as
        fit in turn (so a passage may be refused that would have fitted behind the walk).
        """
        total = sum(lengths)
        if total > self.free:
            return None
        if total == 0:
            return [0] * len(lengths)
        whole = next((i for i, run in enumerate(self._lengths) if run >= total), None)
        if whole is not None:
            first = self._starts[whole]
            self._cut(whole, total)
            return [first + before for before in accumulate(lengths[:-1], initial=0)]
        starts, cuts, i, used = [], [], 0, 0
        for length in lengths:
            while i < len(self._lengths) and self._lengths[i] - used < length:
                cuts.append((i, used))
                i, used = i + 1, 0
            if i == len(self._lengths):
                return None
            starts.append(self._starts[i] + used)
            used += length
        for run, cut in reversed([*cuts, (i, used)]):
            self._cut(run, cut)
        return starts

    def give(self, start: int, length: int) -> None:
        """Take a run back; it must not be free already."""
        if not length:
            return
        self.free += length
        i = bisect_left(self._starts, start)
        if i < len(self._starts) and self._starts[i] == start + length:
            length += self._lengths[i]
            del self._starts[i], self._lengths[i]
        if i and self._starts[i - 1] + self._lengths[i - 1] == start:
            self._lengths[i - 1] += length
        else:
            self._starts.insert(i, start)
            self._lengths.insert(i, length)

    def _cut(self, run: int, tokens: int) -> None:
        """Take tokens from the front of a run."""
        self.free -= tokens
        self._starts[run] += tokens
        self._lengths[run] -= tokens
        if not self._lengths[run]:
            del self._starts[run], self._lengths[run]
