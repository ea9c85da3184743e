"""The ways in which a question's tokens may count, as `HeadProfile.rows` names them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.reading.profile import Rows
from ctxshaper.reading.row_weights import content, rarity
from ctxshaper.text.tokenization import Encoder

# From what needs least to what needs most: nothing, the query alone, the query and the passages.
ROWS: tuple[Rows, ...] = ("all", "content", "rare")


def row_shares(query: str, encoder: Encoder, windows: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
    """How much each of a question's tokens counts in each of the `ROWS` ways.

    Args:
        query: the question.
        encoder: the model's tokenizer.
        windows: tokens of the passages, which tell how rare the question's are.

    Returns:
        [len(ROWS), R]; each way sums to 1.
    """
    ids, offsets = encoder.data(query)
    words = content(query, offsets).astype(np.float64)
    held = [set(window.tolist()) for window in windows]
    holding = np.array([sum(token in window for window in held) for token in ids], dtype=np.int64)
    shares = np.stack([np.ones(len(ids)), words, words * rarity(holding, len(windows))])
    result: NDArray[np.float64] = shares / shares.sum(1, keepdims=True)
    return result
