"""How much each token of a question counts: all alike, content words only, or content words by their rarity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ctxshaper.reading.function_words import content_ranges


def content(query: str, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which tokens of a query belong to content words.

    Args:
        query: the text.
        offsets: [R, 2] characters of its tokens, half-open.

    Returns:
        [R]; all of them where the query has no content word.
    """
    covered = np.zeros(len(query) + 1, dtype=np.int64)
    for start, end in content_ranges(query):
        covered[start:end] = 1
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
