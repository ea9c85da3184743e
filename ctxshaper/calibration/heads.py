"""Finds the heads of a model that carry relevance, their weights, and how many layers suffice. NumPy over features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper.calibration.attention_settings import SETTINGS, Setting, attention_table
from ctxshaper.calibration.head_masses import UnitMass
from ctxshaper.calibration.made_up import EvidenceQuestion
from ctxshaper.data import Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.paired import paired_gain

Numbers = NDArray[np.float64]

# Quality is the evidence kept at these shares of the tokens, their mean where one number is needed.
SHARES = (0.15, 0.30)
# The fit chooses among the best single heads; more gave nothing on unseen halves of HotpotQA, and overfits.
_POOL = 8
_ROUNDS = 100
# A head with a smaller share of the score is dropped.
_LEAST = 0.03
# The floor that EvidenceFilter puts under the logarithm.
_FLOOR = 1e-3
# What `fast` may lose: it is the smallest number of layers with this share of the best quality.
_FAST = 0.85


@dataclass(frozen=True)
class Case:
    """One question as numbers: what each head attends to in its units, and which units are evidence."""

    mass: UnitMass
    gold: NDArray[np.bool_]  # [U]


@dataclass(frozen=True)
class Point:
    """Quality on unseen questions when only so many layers are read.

    Attributes:
        layers: how many are read.
        quality: [Q, len(SHARES)] evidence kept of each question, by heads found without it.
        mean: by share, over the questions.
        low: lower end of the 95% bootstrap interval of the mean over questions and shares.
        high: its upper end.
    """

    layers: int
    quality: Numbers
    mean: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes:
        heads: (layer, head, weight, share of the folds that chose it), the largest weight 1.
        chosen: the point of the curve that the heads belong to.
        best: layers of the best point.
        recommended: the fewest layers that are not measurably worse than the best.
        fast: the fewest layers that keep 85% of the best quality.
        curve: by number of layers.
        settings: each setting with its mean quality and its gain over the first, with interval.
        contrast: whether a content-free question is subtracted: only where that gains beyond noise.
    """

    heads: tuple[tuple[int, int, float, float], ...]
    chosen: Point
    best: int
    recommended: int
    fast: int
    curve: tuple[Point, ...]
    settings: tuple[dict[str, Any], ...]
    contrast: bool


def case_of(question: EvidenceQuestion, units: Sequence[Sequence[Span]], mass: UnitMass) -> Case:
    """The units that share text with the evidence are gold."""
    pairs = zip(units, question.gold, strict=True)
    return Case(mass, np.array([any(u.overlaps(g) for g in gold) for spans, gold in pairs for u in spans]))


def calibrate(
    cases: Sequence[Case],
    *,
    folds: int = 5,
    layers: int | None = None,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Calibration:
    """Choose heads by evidence, and measure the choice on questions that took no part in it.

    Heads are ranked alone by the evidence they keep (QRHead, arXiv 2506.09944, ranks by the attention on gold
    documents); the best eight are weighted by maximum likelihood of the evidence among a question's units. A head is
    used only if at least half of the folds chose it too.

    Args:
        cases: questions; those without evidence are left out.
        folds: questions are dealt out in turn; each fold is judged by the heads that the others chose.
        layers: how many layers the result may read; None for the recommended number.
        progress: goes over the numbers of layers, for a progress bar.

    Raises:
        InvalidInputError: fewer questions than two per fold, or a number of layers that the model does not have.
    """
    cases = [case for case in cases if case.gold.any() and not case.gold.all()]
    if not 2 <= folds <= len(cases) // 2:
        raise InvalidInputError(
            f"{folds} folds need 2 or more folds of 2 or more questions with known evidence, but there are {len(cases)}"
        )
    depth = cases[0].mass.asked.shape[2]
    if layers is not None and not 1 <= layers <= depth:
        raise InvalidInputError(f"layers must lie between 1 and the model's {depth}, but got {layers}")
    measured = [_Fit(cases, setting).unseen(depth, folds) for setting in SETTINGS]
    first = measured[0].mean(1)
    gains = [paired_gain(quality.mean(1).tolist(), first.tolist()) for quality in measured]
    contrast = gains[1].low > 0
    settings = tuple(
        {"setting": str(s), "quality": _rounded(m.mean(0)), "gain": _rounded([g.gain, g.low, g.high])}
        for s, m, g in zip(SETTINGS, measured, gains, strict=True)
    )
    fit = _Fit(cases, SETTINGS[1 if contrast else 0])
    curve = tuple(_point(n, fit.unseen(n, folds)) for n in progress(range(1, depth + 1)))
    best = max(curve, key=lambda p: sum(p.mean))
    recommended = next(p.layers for p in curve if p is best or not _worse(p, best))
    fast = next(p.layers for p in curve if sum(p.mean) >= _FAST * sum(best.mean))
    chosen = curve[(layers or recommended) - 1]
    return Calibration(
        fit.heads(chosen.layers, folds), chosen, best.layers, recommended, fast, curve, settings, contrast
    )


def interval(values: Numbers, *, rounds: int = 10_000) -> tuple[float, float]:
    """95% percentile bootstrap of the mean of [Q] values, with a fixed seed."""
    drawn = np.random.default_rng(0).integers(len(values), size=(rounds, len(values)))
    low, high = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)


def evidence_kept(scores: Numbers, tokens: NDArray[np.int64], gold: NDArray[np.bool_]) -> Numbers:
    """Share of the gold units among the best units that fill each of the `SHARES` of the tokens.

    Args:
        scores: [U] or [U, n], n ways to score.
        tokens: [U] of each unit.
        gold: [U].

    Returns:
        [len(SHARES)] or [len(SHARES), n].
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    taken = np.cumsum(tokens[order], axis=0)
    hits = gold[order]
    return np.stack([(hits & (taken <= share * tokens.sum())).sum(0) / gold.sum() for share in SHARES])


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), 4) for value in values]


def _point(layers: int, quality: Numbers) -> Point:
    return Point(layers, quality, tuple(quality.mean(0).tolist()), *interval(quality.mean(1)))


def _worse(point: Point, best: Point) -> bool:
    """Whether fewer layers lose more than one standard error of the paired difference (the one-standard-error rule)."""
    lost = (best.quality - point.quality).mean(1)
    return bool(lost.mean() > lost.std(ddof=1) / np.sqrt(len(lost)))


class _Fit:
    """All questions under one setting, laid end to end: attention of units and of their passages, by head."""

    def __init__(self, cases: Sequence[Case], setting: Setting) -> None:
        tables = [attention_table(case.mass, setting) for case in cases]
        self.own = np.concatenate([own for own, _ in tables])  # [all units, L * H]
        self.passage = np.concatenate([passage for _, passage in tables])
        self.tokens = [case.mass.tokens.sum(1) for case in cases]
        self.gold = [case.gold for case in cases]
        self.ends = np.cumsum([0, *map(len, self.gold)])
        self.heads_per_layer = cases[0].mass.asked.shape[3]
        # [Q, L * H] what each head keeps alone, and what it attends to on average: the scale of its weight.
        alone = [
            evidence_kept(_scores(*(np.maximum(x, 0) for x in table)), tokens, gold).mean(0)
            for table, tokens, gold in zip(tables, self.tokens, self.gold, strict=True)
        ]
        self.alone = np.stack(alone)
        self.scale = np.maximum(self.passage.mean(0), _FLOOR)
        # Most numbers of layers have the same best heads.
        self._weigh = lru_cache(maxsize=None)(self._weights)

    def unseen(self, layers: int, folds: int) -> Numbers:
        """[Q, len(SHARES)] evidence kept of each question by heads chosen on the other folds."""
        quality = np.zeros((len(self.gold), len(SHARES)))
        for fold in range(folds):
            weights = self.choose(layers, fold, folds)
            for q in range(fold, len(self.gold), folds):
                rows = slice(self.ends[q], self.ends[q + 1])
                scores = _scores(self.own[rows] @ weights, self.passage[rows] @ weights)
                quality[q] = evidence_kept(scores, self.tokens[q], self.gold[q])
        return quality

    def heads(self, layers: int, folds: int) -> tuple[tuple[int, int, float, float], ...]:
        """Heads chosen on all questions among those that at least half of the folds chose."""
        votes = np.mean([self.choose(layers, fold, folds) > 0 for fold in range(folds)], axis=0)
        agreed = np.flatnonzero(votes >= 0.5)
        if not len(agreed):
            raise InvalidInputError("no head was chosen by half of the folds; use more questions, or fewer folds")
        weights = self._weigh(tuple(agreed.tolist()), None, folds)
        weights = weights / weights.max()
        heads = self.heads_per_layer
        return tuple(
            (int(i // heads), int(i % heads), round(float(weights[i]), 3), round(float(votes[i]), 3))
            for i in np.flatnonzero(weights)
        )

    def choose(self, layers: int, without: int, folds: int) -> Numbers:
        """[L * H] weights found on all questions but one fold."""
        seen = np.arange(len(self.gold)) % folds != without
        alone = self.alone[seen, : layers * self.heads_per_layer].mean(0)
        pool = np.sort(np.argsort(-alone, kind="stable")[:_POOL])
        return self._weigh(tuple(pool.tolist()), without, folds)

    def _weights(self, pool: tuple[int, ...], without: int | None, folds: int) -> Numbers:
        """Maximum likelihood of the evidence, p(unit) ~ attention of the unit * of its passage, weights >= 0.

        Multiplicative updates, as for non-negative factors (Lee and Seung 2001): each weight times the ratio of what
        raises the likelihood to what lowers it. They need no step size, and what starts at 0 stays there.
        """
        questions = [q for q in range(len(self.gold)) if q % folds != without]
        rows = np.concatenate([np.arange(self.ends[q], self.ends[q + 1]) for q in questions])
        columns = np.array(pool)
        own = np.maximum(self.own[np.ix_(rows, columns)] / self.scale[columns], 0)
        passage = np.maximum(self.passage[np.ix_(rows, columns)] / self.scale[columns], 0)
        lengths = np.array([len(self.gold[q]) for q in questions])
        starts = np.cumsum(lengths) - lengths
        wanted = np.concatenate([self.gold[q] / self.gold[q].sum() for q in questions])
        share = np.full(len(pool), 1 / len(pool))
        for turn in range(_ROUNDS):
            a, b = own @ share + _FLOOR, passage @ share + _FLOOR
            odds = a * b / np.repeat(np.maximum.reduceat(a * b, starts), lengths)
            given = odds / np.repeat(np.add.reduceat(odds, starts), lengths)
            up = (wanted / a) @ own + (wanted / b) @ passage
            down = (given / a) @ own + (given / b) @ passage
            share *= up / np.maximum(down, 1e-12)
            share /= share.sum()
            if turn in (_ROUNDS // 2, _ROUNDS - 1):
                share[share < _LEAST] = 0
        weights = np.zeros(len(self.scale))
        weights[columns] = share / self.scale[columns]
        return weights


def _scores(own: Numbers, passage: Numbers) -> Numbers:
    """EvidenceFilter's score by attention alone."""
    scores: Numbers = np.log(np.maximum(own, 0) + _FLOOR) + np.log(np.maximum(passage, 0) + _FLOOR)
    return scores
