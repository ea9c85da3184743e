"""An injection probe from its numbers, and the thresholds of detectors from false alarms on benign text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.injection_probe import InjectionProbe
from ctxshaper.stages.injection_screen.stage import InjectionScreen, screened_units
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Run

Numbers = NDArray[np.float64]


def probe_of(layers: Sequence[int], weights: Numbers, bias: float, threshold: float) -> InjectionProbe:
    """A probe with its numbers rounded to what a profile holds."""
    rounded = tuple(float(f"{weight:.5g}") for weight in weights)
    return InjectionProbe(tuple(layers), rounded, round(bias, 4), round(threshold, 4))


def passage_scores(screen: InjectionScreen, passages: Sequence[Passage], parts: Parts) -> Numbers:
    """[len(passages)] the highest score of each passage's sentences and of its title; minus infinity without text."""
    result = np.full(len(passages), -np.inf)
    for place, passage in enumerate(passages):
        context = Context("", (passage,), parts.count)
        units = screened_units(context)
        if units:
            found = screen.findings(context.passages, units, Run(parts))
            result[place] = max([*found.scores, *found.headings])
    return result


def threshold_of(scores: Numbers, false_alarms: float) -> float:
    """The lowest threshold that flags at most this share of benign passages.

    Args:
        scores: of benign passages, as `passage_scores` gives.
        false_alarms: the share, in [0, 1).

    Raises:
        InvalidInputError: too few passages to tell: a share of 1% needs 100.
    """
    if not 0 <= false_alarms < 1:
        raise InvalidInputError(f"false_alarms must be a share in [0, 1), but got {false_alarms}")
    if false_alarms and len(scores) * false_alarms < 1:
        raise InvalidInputError(
            f"{len(scores)} benign passages cannot tell a share of {false_alarms:.2%} false alarms; pass at least "
            f"{math.ceil(1 / false_alarms)}, or allow more"
        )
    ordered = np.sort(scores)
    # A score equal to the threshold is not flagged.
    return float(ordered[len(ordered) - 1 - math.floor(len(ordered) * false_alarms)])
