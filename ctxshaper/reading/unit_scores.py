"""Scores of many units of text at once: thousands of passages take no work of Python's each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Span
from ctxshaper.reading.reading import PassageReading


def unit_scores(
    passages: Sequence[PassageReading], owners: NDArray[np.int64], spans: Sequence[Span]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The mean score of each unit's tokens, and how many it has: `PassageReading.span_scores`, all at once.

    A token belongs to the units that hold its last character.

    Args:
        passages: what was read.
        owners: [n] the passage of each unit.
        spans: [n] where each unit lies in its passage's source; in any order, and units may overlap.

    Returns:
        [n] float64, 0 for a unit without tokens, and [n] int64.
    """
    read = list(passages)
    offsets = np.concatenate([one.offsets for one in read] or [np.zeros((0, 2), dtype=np.int64)])
    scores = np.concatenate([one.scores for one in read] or [np.zeros(0, dtype=np.float32)])
    starts = np.array([span.start for span in spans], dtype=np.int64)
    ends = np.array([span.end for span in spans], dtype=np.int64)
    # All sources end to end, so that one search finds the tokens of every unit.
    counts = np.array([len(one.scores) for one in read], dtype=np.int64)
    reach = int(max(offsets[:, 1].max(initial=0), ends.max(initial=0))) + 1
    # A token may begin with the white space that ends the previous sentence: its last character decides.
    last = np.maximum(offsets[:, 1] - 1, offsets[:, 0]) + np.repeat(np.arange(len(read)) * reach, counts)
    first = np.searchsorted(last, starts + owners * reach)
    sizes = np.searchsorted(last, ends + owners * reach) - first
    unit = np.repeat(np.arange(len(spans)), sizes)
    token = np.arange(len(unit)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    sums = np.bincount(unit, weights=scores[token].astype(np.float64), minlength=len(spans))
    return sums / np.maximum(sizes, 1), sizes
