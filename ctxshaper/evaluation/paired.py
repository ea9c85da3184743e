"""How sure a mean is, and whether one method beats another on the same questions or the difference is noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.attnrank.profile import Gain


def interval(values: Sequence[float], *, rounds: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of a mean over questions (Efron and Tibshirani 1993, chapter 13).

    Args:
        values: one per question.
        rounds: how often questions are drawn anew.
        seed: of the random numbers; the same seed gives the same result.

    Raises:
        InvalidInputError: no values.
    """
    if not len(values):
        raise InvalidInputError("an interval needs at least 1 value, but got none")
    known = np.asarray(values, dtype=float)
    drawn = known[np.random.default_rng(seed).integers(len(known), size=(rounds, len(known)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def paired_gain(ours: Sequence[float], theirs: Sequence[float], *, rounds: int = 10_000, seed: int = 0) -> Gain:
    """Compare two methods question by question.

    The p-value is that of a two-sided sign-flip permutation test of the mean difference, the interval a percentile
    bootstrap over questions (95%).

    Args:
        ours: one score per question, higher is better.
        theirs: the same questions, answered by the other method.
        rounds: random draws of each of the two.
        seed: of the random numbers; the same seed gives the same result.

    Raises:
        InvalidInputError: different lengths, or fewer than 2 questions.
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise InvalidInputError(
            f"a paired test needs the same 2 or more questions, but got {len(ours)} and {len(theirs)}"
        )
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    random = np.random.default_rng(seed)
    gain = float(differences.mean())
    flipped = (random.choice([-1.0, 1.0], size=(rounds, len(differences))) * differences).mean(1)
    # The observed signs are one of the possible draws; the epsilon lets equal sums of floats count as equal.
    p = (1 + int((np.abs(flipped) >= abs(gain) - 1e-12).sum())) / (rounds + 1)
    drawn = differences[random.integers(len(differences), size=(rounds, len(differences)))].mean(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Gain(gain, float(low), float(high), p)
