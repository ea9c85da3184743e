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
    scores, first, sizes = _located(passages, owners, spans)
    unit = np.repeat(np.arange(len(spans)), sizes)
    token = np.arange(len(unit)) + np.repeat(first - (np.cumsum(sizes) - sizes), sizes)
    sums = np.bincount(unit, weights=scores[token].astype(np.float64), minlength=len(spans))
    return sums / np.maximum(sizes, 1), sizes


def peak_scores(
    passages: Sequence[PassageReading], owners: NDArray[np.int64], spans: Sequence[Span], width: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The same, but of a unit with more tokens than `width` the best mean of so many that stand together.

    Windows overlap by half, so that a few words are not lost in a long unit.
    """
    scores, first, sizes = _located(passages, owners, spans)
    step = max(1, width // 2)
    spare = np.maximum(sizes - width, 0)
    counts = -(-spare // step) + 1
    unit = np.repeat(np.arange(len(spans)), counts)
    number = np.arange(len(unit)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = first[unit] + np.minimum(number * step, spare[unit])
    length = np.minimum(sizes, width)[unit]
    sums = np.concatenate(([0.0], np.cumsum(scores, dtype=np.float64)))
    result = np.full(len(spans), -np.inf)
    np.maximum.at(result, unit, (sums[start + length] - sums[start]) / np.maximum(length, 1))
    return result, sizes


def _located(
    passages: Sequence[PassageReading], owners: NDArray[np.int64], spans: Sequence[Span]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The scores of all passages end to end, and of each unit its first token among them and how many it has."""
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
    return scores, first, sizes
