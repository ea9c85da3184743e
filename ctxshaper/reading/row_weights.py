"""How much each token of a question counts: all alike, content words only, or content words by their rarity."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"\w+")
# English words that carry grammar and no content. In other languages all words count as content.
_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a about after again all also although am an and another any are as at be because been before being between "
        "both but by can could did do does doing during each either every for from further had has have having he her "
        "here hers him his how however i if in into is it its itself just may me might more most much must my no nor "
        "not of off on once one only or other our out over own same shall she should since so some such than that the "
        "their them then there these they this those through to too under until up upon us very was we were what when "
        "where whether which while who whom whose why will with within without would you your s t d ll m re ve"
    )
)


def content(query: str, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens of a query belong to content words.

    Args:
        query: the text.
        offsets: [R, 2] characters of its tokens, half-open.

    Returns:
        [R]; all of them where the query has no content word.
    """
    covered = np.zeros(len(query) + 1, dtype=np.int64)
    for word in _WORD.finditer(query):
        if word[0].lower() not in _FUNCTION_WORDS:
            covered[word.start() : word.end()] = 1
    before = np.concatenate(([0], np.cumsum(covered)))
    found = before[offsets[:, 1]] > before[offsets[:, 0]]
    return found if found.any() else np.ones(len(offsets), dtype=bool)


def rarity(holding: NDArray[np.int64], passages: int) -> NDArray[np.float64]:
    """How rare tokens are among passages: the inverse document frequency of BM25.

    Args:
        holding: [R] how many passages hold each token.
        passages: how many there are.

    Returns:
        [R] above 0.
    """
    return np.log1p((passages - holding + 0.5) / (holding + 0.5))
