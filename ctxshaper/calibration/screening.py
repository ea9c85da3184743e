"""Fits an injection probe, and the thresholds of detectors, from false alarms on benign text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.injection_probe import InjectionProbe
from ctxshaper.stages.injection_screen.stage import InjectionScreen, screened_units
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Run

Numbers = NDArray[np.float64]
_STEPS = 50


def logistic(
    table: Numbers, labels: NDArray[np.int64], weights: Numbers, ridge: float, device: torch.device | str = "cpu"
) -> tuple[Numbers, float]:
    """Weights and bias of a logistic regression with a ridge on standardised columns, by Newton's method.

    Args:
        table: [n, F], one row per sentence.
        labels: [n] 1 for an instruction to the model, 0 for ordinary text.
        weights: [n] how much each row counts; their sum is taken as 1.
        ridge: factor of half the squared norm of the standardised weights.
        device: where it is computed, in double precision.

    Returns:
        [F] weights and the bias of the columns as they are: log odds.
    """
    rows, marks = torch.from_numpy(table).to(device), torch.from_numpy(labels).to(device)
    share = torch.from_numpy(weights / weights.sum()).to(device)
    middle = share @ rows
    spread = (share @ (rows - middle) ** 2).clamp_min(1e-12).sqrt()
    given = torch.cat([torch.ones_like(rows[:, :1]), (rows - middle) / spread], 1)
    damping = ridge * torch.eye(given.shape[1], dtype=rows.dtype, device=device)
    damping[0, 0] = 1e-9
    found = torch.zeros_like(damping[0])
    for _ in range(_STEPS):
        likely = torch.sigmoid(given @ found)
        slope = given.T @ (share * (likely - marks)) + damping @ found
        bend = (given.T * (share * likely * (1 - likely))) @ given + damping
        step = torch.linalg.solve(bend, slope)
        found -= step * min(1.0, 5.0 / max(float(step.abs().max()), 1e-9))
        if step.abs().max() < 1e-6:
            break
    slopes = found[1:] / spread
    return slopes.cpu().numpy(), float(found[0] - slopes @ middle)


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
