"""Links between the passages of one request: which unit of text names which other passage's title."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.text.terms import terms

# Shorter titles ("It", "X") are words before they are names.
_SHORTEST = 3
# The probability below which a link says nothing: it keeps unlikely sentences from dragging in what they name.
_FLOOR = 0.05


def title_links(titles: Sequence[str], texts: Sequence[str], owners: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which unit names the title of which other passage, word for word, whatever the case and punctuation.

    Args:
        titles: by passage; empty where there is none. Pieces of one document have the same title and do not link to
            each other.
        texts: by unit.
        owners: [number of units] the passage of each unit.

    Returns:
        [number of links, 2] a unit and a passage that it names, each pair once. (A table of all pairs would take half
        a gigabyte for 8,000 passages.)
    """
    links: list[tuple[int, int]] = []
    names = [tuple(terms(_undisambiguated(title))) for title in titles]
    passages: dict[tuple[str, ...], list[int]] = {}
    for passage, name in enumerate(names):
        if len(" ".join(name)) >= _SHORTEST:
            passages.setdefault(name, []).append(passage)
    if not passages:
        return np.zeros((0, 2), dtype=np.int64)
    known = _Names(passages)
    for unit, (owner, text) in enumerate(zip(owners, texts, strict=True)):
        for name in known.within(terms(text)):
            if name != names[owner]:
                links += [(unit, passage) for passage in passages[name]]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def link_features(
    links: NDArray[np.int64], owners: NDArray[np.int64], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the links say of each unit, given how likely each unit is by itself.

    Args:
        links: what `title_links` gives.
        owners: [number of units] the passage of each unit.
        scores: [number of units] log-odds, up to a constant.

    Returns:
        [number of units, 2], each the logarithm of a probability over a floor, 0 where nothing is linked: that the
        evidence names the unit's passage, and that the evidence lies in a passage that the unit names.
    """
    likely = np.exp(scores - scores.max())
    likely /= likely.sum()
    units, passages = links.T
    count = int(max(owners.max(), passages.max(initial=0))) + 1
    by_passage = np.bincount(owners, weights=likely, minlength=count)
    named = np.bincount(passages, weights=likely[units], minlength=count)[owners]
    names = np.bincount(units, weights=by_passage[passages], minlength=len(owners))
    result: NDArray[np.float64] = np.log1p(np.stack([named, names], axis=1) / _FLOOR)
    return result


class _Names:
    """Finds many names in a text at once, in one pass over its words (Aho and Corasick, CACM 18(6), 1975)."""

    def __init__(self, names: Iterable[tuple[str, ...]]) -> None:
        # By state: the words that lead on, where to look when none does, the name that ends here, and the nearest
        # state behind it where a shorter name ends too.
        self._next: list[dict[str, int]] = [{}]
        self._name: list[tuple[str, ...]] = [()]
        for name in names:
            self._name[self._state_of(name)] = name
        self._fail = [0] * len(self._next)
        self._shorter = [0] * len(self._next)
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for word, child in self._next[state].items():
                self._fail[child] = fail = self._step(self._fail[state], word)
                self._shorter[child] = fail if self._name[fail] else self._shorter[fail]
                queue.append(child)

    def within(self, words: Iterable[str]) -> Iterator[tuple[str, ...]]:
        """Yields each name that stands in a text, once."""
        seen: set[int] = {0}
        state = 0
        for word in words:
            state = self._step(state, word)
            found = state if self._name[state] else self._shorter[state]
            while found not in seen:
                seen.add(found)
                yield self._name[found]
                found = self._shorter[found]

    def _state_of(self, name: tuple[str, ...]) -> int:
        state = 0
        for word in name:
            following = self._next[state].setdefault(word, len(self._next))
            if following == len(self._next):
                self._next.append({})
                self._name.append(())
            state = following
        return state

    def _step(self, state: int, word: str) -> int:
        while state and word not in self._next[state]:
            state = self._fail[state]
        return self._next[state].get(word, 0)


def _undisambiguated(title: str) -> str:
    """Without a last bracket: "Sulli (singer)" is called Sulli by everybody else."""
    bare = title.rstrip()
    opening = bare.rfind("(")
    if bare.endswith(")") and opening > 0 and ")" not in bare[opening:-1]:
        return bare[:opening].rstrip() or title
    return title
