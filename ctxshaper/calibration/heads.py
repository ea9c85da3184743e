"""Finds which heads of a model carry relevance: how many layers, key slots and which rows of a question it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper.calibration.attention_settings import SETTINGS
from ctxshaper.calibration.head_fit import Case, HeadFit
from ctxshaper.calibration.head_masses import HeadShape, UnitMass
from ctxshaper.calibration.made_up import EvidenceQuestion
from ctxshaper.calibration.row_shares import ROWS
from ctxshaper.data import Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.paired import interval, paired_gain
from ctxshaper.reading.profile import Rows

Numbers = NDArray[np.float64]

# Numbers of key slots that are measured.
SLOTS = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Point:
    """Quality on unseen questions when only so many layers are read and so many key slots kept.

    Attributes:
        layers: how many are read.
        slots: how many (layer, key head) are kept at most.
        quality: [Q, len(SHARES)] evidence kept of each question, by heads found without it.
        mean: by share, over the questions.
        low: lower end of the 95% bootstrap interval of the mean over questions and shares.
        high: its upper end.
    """

    layers: int
    slots: int
    quality: Numbers
    mean: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes:
        heads: (layer, head, weight, share of the folds that chose it), the largest weight 1.
        chosen: the point that the heads belong to.
        rows: which of the question's tokens count: one of `ROWS`.
        recommended: layers: the fewest that are not measurably worse than the best number of layers.
        by_slots: the curve against the number of slots, all layers that may be read.
        by_layers: the curve against the number of layers, with the chosen number of slots.
        by_rows: each of the `ROWS` with its mean quality and its gain over the first, with interval.
        settings: each setting with its mean quality and its gain over the first, with interval.
        contrast: whether a content-free question is subtracted: only where that gains beyond noise.
        slot_bytes: bytes that a token takes in a memory, by slot.
    """

    heads: tuple[tuple[int, int, float, float], ...]
    chosen: Point
    rows: Rows
    recommended: int
    by_slots: tuple[Point, ...]
    by_layers: tuple[Point, ...]
    by_rows: tuple[dict[str, Any], ...]
    settings: tuple[dict[str, Any], ...]
    contrast: bool
    slot_bytes: int


def case_of(question: EvidenceQuestion, units: Sequence[Sequence[Span]], mass: UnitMass) -> Case:
    """The units that share text with the evidence are gold."""
    pairs = zip(units, question.gold, strict=True)
    return Case(mass, np.array([any(u.overlaps(g) for g in gold) for spans, gold in pairs for u in spans]))


def calibrate(
    cases: Sequence[Case],
    shape: HeadShape,
    *,
    folds: int = 5,
    layers: int | None = None,
    slots: int | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Calibration:
    """Choose heads by evidence, and measure the choice on questions that took no part in it.

    First the question's rows (mean over the numbers of slots), then the number of slots, then of layers; each time the
    cheapest that is not measurably worse than the best.

    Args:
        cases: questions; those without evidence are left out.
        shape: the model's heads.
        folds: questions are dealt out in turn; each fold is judged by the heads that the others chose.
        layers: how many layers the result may read; None for the recommended number.
        slots: how many key slots the result may keep; None for the recommended number.
        progress: goes over the numbers of layers, for a progress bar.

    Raises:
        InvalidInputError: fewer questions than two per fold, or a number of layers or slots that the model does not
            have.
    """
    cases = [case for case in cases if case.gold.any() and not case.gold.all()]
    if not 2 <= folds <= len(cases) // 2:
        raise InvalidInputError(
            f"{folds} folds need 2 or more folds of 2 or more questions with known evidence, but there are {len(cases)}"
        )
    depth, most = layers or shape.layers, shape.layers * shape.kv_heads
    if not 1 <= depth <= shape.layers or (slots is not None and not 1 <= slots <= most):
        raise InvalidInputError(
            f"layers must lie between 1 and the model's {shape.layers}, and slots between 1 and {most}, but got "
            f"{layers} and {slots}"
        )
    fits = [HeadFit(cases, shape, SETTINGS[0], rows, folds) for rows in range(len(ROWS))]
    by_slots = [[_point(fit, depth, n) for n in SLOTS] for fit in fits]
    by_rows = [np.mean([point.quality for point in points], axis=0) for points in by_slots]
    rows = _fewest(by_rows)
    kept = slots or SLOTS[_fewest([point.quality for point in by_slots[rows]])]
    fit = fits[rows]
    measured = [fit.unseen(depth, kept)]
    measured += [HeadFit(cases, shape, setting, rows, folds).unseen(depth, kept) for setting in SETTINGS[1:]]
    settings = _compared(list(map(str, SETTINGS)), measured)
    contrast = settings[1]["gain"][1] > 0
    if contrast:
        fit = HeadFit(cases, shape, SETTINGS[1], rows, folds)
    by_layers = [_point(fit, n, kept) for n in progress(range(1, shape.layers + 1))]
    recommended = 1 + _fewest([point.quality for point in by_layers])
    chosen = by_layers[(layers or recommended) - 1]
    return Calibration(
        fit.heads(chosen.layers, kept),
        chosen,
        ROWS[rows],
        recommended,
        tuple(_point(fit, depth, n) for n in SLOTS),
        tuple(by_layers),
        _compared(ROWS, by_rows),
        settings,
        contrast,
        shape.slot_bytes(),
    )


def _point(fit: HeadFit, layers: int, slots: int) -> Point:
    quality = fit.unseen(layers, slots)
    return Point(layers, slots, quality, tuple(quality.mean(0).tolist()), *interval(quality.mean(1).tolist()))


def _fewest(qualities: Sequence[Numbers]) -> int:
    """The first that loses at most one standard error of its paired difference to the best (one-standard-error rule).

    (Breiman, Friedman, Olshen and Stone 1984, Classification and Regression Trees, section 3.4.3.)
    """
    means = [float(quality.mean()) for quality in qualities]
    best = qualities[means.index(max(means))]
    for number, quality in enumerate(qualities):
        lost = (best - quality).mean(1)
        if lost.mean() <= lost.std(ddof=1) / np.sqrt(len(lost)):
            return number
    return means.index(max(means))


def _compared(names: Sequence[str], qualities: Sequence[Numbers]) -> tuple[dict[str, Any], ...]:
    """Mean quality of each, and its paired gain over the first."""
    first = qualities[0].mean(1).tolist()
    gains = [paired_gain(quality.mean(1).tolist(), first) for quality in qualities]
    return tuple(
        {"name": name, "quality": _rounded(quality.mean(0)), "gain": _rounded([gain.gain, gain.low, gain.high])}
        for name, quality, gain in zip(names, qualities, gains, strict=True)
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
