"""Chooses and weighs heads by evidence, for a number of layers and of key slots. NumPy over features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ctxshaper.calibration.attention_settings import Setting, attention_table
from ctxshaper.calibration.head_masses import HeadShape, UnitMass

Numbers = NDArray[np.float64]

# Quality is the evidence kept at these shares of the tokens, their mean where one number is needed.
SHARES = (0.15, 0.30)
# The fit begins with the best single heads; set by hand: enough to fill eight slots, where one key head holds several.
_POOL = 12
_ROUNDS = 100
# A head with a smaller share of the score is dropped.
_LEAST = 0.03
# The floor that EvidenceFilter puts under the logarithm.
_FLOOR = 1e-3


@dataclass(frozen=True)
class Case:
    """One question as numbers: what each head attends to in its units, and which units are evidence."""

    mass: UnitMass
    gold: NDArray[np.bool_]  # [U]


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


class HeadFit:
    """All questions under one setting, laid end to end: attention of units and of their passages, by head.

    Heads are ranked alone by the evidence they keep (QRHead, arXiv 2506.09944, ranks by the attention on gold
    documents). The best are weighted by maximum likelihood of the evidence among a question's units; then the slot with
    the least share of the score goes, and the rest is weighted anew, until so many slots are left as may be read
    (recursive feature elimination: Guyon et al. 2002, Machine Learning 46, 389).

    Args:
        cases: questions, each with evidence.
        shape: the model's heads.
        setting: how attention becomes a score.
        rows: which of the `ROWS` ways the question's tokens count.
        folds: questions are dealt out in turn; each fold is judged by the heads that the others chose.
    """

    def __init__(self, cases: Sequence[Case], shape: HeadShape, setting: Setting, rows: int, folds: int) -> None:
        tables = [attention_table(case.mass, setting, rows) for case in cases]
        self._own = np.concatenate([own for own, _ in tables])  # [all units, L * H]
        self._passage = np.concatenate([passage for _, passage in tables])
        self._tokens = [case.mass.tokens.sum(1) for case in cases]
        self._gold = [case.gold for case in cases]
        self._ends = np.cumsum([0, *map(len, self._gold)])
        self._shape, self._slots, self._folds = shape, shape.slots(), folds
        # [Q, L * H] what each head keeps alone, and what it attends to on average: the scale of its weight.
        self._alone = np.stack(
            [
                evidence_kept(_scores(*(np.maximum(x, 0) for x in table)), tokens, gold).mean(0)
                for table, tokens, gold in zip(tables, self._tokens, self._gold, strict=True)
            ]
        )
        self._scale = np.maximum(self._passage.mean(0), _FLOOR)
        # Most numbers of layers have the same best heads, and fewer slots begin where more slots end.
        self._weigh = lru_cache(maxsize=None)(self._shares)

    def unseen(self, layers: int, slots: int) -> Numbers:
        """[Q, len(SHARES)] evidence kept of each question by heads chosen on the other folds."""
        quality = np.zeros((len(self._gold), len(SHARES)))
        for fold in range(self._folds):
            weights = self._chosen(layers, slots, fold)
            for q in range(fold, len(self._gold), self._folds):
                rows = slice(self._ends[q], self._ends[q + 1])
                scores = _scores(self._own[rows] @ weights, self._passage[rows] @ weights)
                quality[q] = evidence_kept(scores, self._tokens[q], self._gold[q])
        return quality

    def heads(self, layers: int, slots: int) -> tuple[tuple[int, int, float, float], ...]:
        """Layer, head, weight (the largest 1) and share of the folds that chose it, of heads chosen on all questions.

        A choice may hang on a few questions, so heads are used that at least half of the folds chose; where the folds
        agree on none, those that all questions choose.
        """
        votes = np.mean([self._chosen(layers, slots, fold) > 0 for fold in range(self._folds)], axis=0)
        agreed = tuple(np.flatnonzero(votes >= 0.5).tolist())
        weights = self._weights(agreed, slots, None) if agreed else self._chosen(layers, slots, None)
        weights = weights / weights.max()
        heads = self._shape.heads
        return tuple(
            (int(i // heads), int(i % heads), round(float(weights[i]), 3), round(float(votes[i]), 3))
            for i in np.flatnonzero(weights)
        )

    def _chosen(self, layers: int, slots: int, without: int | None) -> Numbers:
        """[L * H] weights found on all questions but one fold."""
        seen = np.array([q % self._folds != without for q in range(len(self._gold))])
        alone = self._alone[seen, : layers * self._shape.heads].mean(0)
        pool = np.sort(np.argsort(-alone, kind="stable")[:_POOL])
        return self._weights(tuple(pool.tolist()), slots, without)

    def _weights(self, pool: tuple[int, ...], slots: int, without: int | None) -> Numbers:
        """[L * H] weights of the heads of a pool that are left in so many slots."""
        while True:
            shares = self._weigh(pool, without)
            held = {
                slot: sum(s for i, s in shares.items() if self._slots[i] == slot) for slot in self._slots[[*shares]]
            }
            if len(held) <= slots:
                break
            least = min(held, key=lambda slot: held[slot])
            pool = tuple(i for i in shares if self._slots[i] != least)
        weights = np.zeros(len(self._scale))
        weights[list(shares)] = np.array([*shares.values()]) / self._scale[list(shares)]
        return weights

    def _shares(self, pool: tuple[int, ...], without: int | None) -> dict[int, float]:
        """Shares in the score by maximum likelihood of the evidence, p(unit) ~ attention of the unit * of its passage.

        Multiplicative updates, as for non-negative factors (Lee and Seung 2001): each weight times the ratio of what
        raises the likelihood to what lowers it. They need no step size, and what starts at 0 stays there.
        """
        questions = [q for q in range(len(self._gold)) if q % self._folds != without]
        rows = np.concatenate([np.arange(self._ends[q], self._ends[q + 1]) for q in questions])
        columns = np.array(pool)
        own = np.maximum(self._own[np.ix_(rows, columns)] / self._scale[columns], 0)
        passage = np.maximum(self._passage[np.ix_(rows, columns)] / self._scale[columns], 0)
        lengths = np.array([len(self._gold[q]) for q in questions])
        starts = np.cumsum(lengths) - lengths
        wanted = np.concatenate([self._gold[q] / self._gold[q].sum() for q in questions])
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
        return {int(i): float(s) for i, s in zip(pool, share, strict=True) if s > 0}


def _scores(own: Numbers, passage: Numbers) -> Numbers:
    """EvidenceFilter's score by attention alone."""
    scores: Numbers = np.log(np.maximum(own, 0) + _FLOOR) + np.log(np.maximum(passage, 0) + _FLOOR)
    return scores
