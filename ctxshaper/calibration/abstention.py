"""Fits how likely any passage answers: what the budget `auto` abstains by, for a model and a user's own data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper.calibration.logistic import logistic
from ctxshaper.calibration.made_up import EvidenceQuestion
from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.abstention import Abstention, drawn
from ctxshaper.stages.evidence_filter.scores import Evidence
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Run
from ctxshaper.stages.units import units_of

Numbers = NDArray[np.float64]
# What a question is asked over: its passages, these without those that hold evidence, another question's.
KINDS = ("answered", "hard", "random")
# Half of the weight on contexts that answer, as `Context.answerable` says.
_WEIGHTS = (0.5, 0.25, 0.25)
# Ridge on the weights of standardised signals, so that signals that part the contexts wholly do not give infinite ones.
# Set by hand.
_RIDGE = 1e-3
THRESHOLDS = (0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class FittedAbstention:
    """What was found.

    Attributes:
        abstention: the weights.
        by_threshold: for each value of `abstain`, which share of the contexts of each kind `auto` would refuse; of
            unseen questions.
        separation: the chance that an answered context of unseen questions is given more than one that is "hard" and
            one that is "random" (AUROC).
    """

    abstention: Abstention
    by_threshold: tuple[dict[str, float], ...]
    separation: dict[str, float]


def signals_of(
    questions: Sequence[EvidenceQuestion],
    parts: Parts,
    *,
    embedding: bool,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> Numbers:
    """What is seen of each question over contexts that answer and contexts that do not.

    Args:
        questions: at least two; those whose passages all hold evidence have no "hard" context.
        parts: the reader whose profile the weights are for, and the embedder.
        embedding: whether the best cosine is taken too.
        progress: goes over the questions, for a progress bar.

    Returns:
        [Q, len(KINDS), 1 or 2]: the log of attention drawn, and the best cosine; NaN where there is no such context.

    Raises:
        InvalidInputError: fewer than two questions, or a reader that does not say what stays on the prefix.
    """
    if len(questions) < 2:
        raise InvalidInputError(f"abstention needs 2 questions with known evidence or more, but got {len(questions)}")
    found = np.full((len(questions), len(KINDS), 2 if embedding else 1), np.nan)
    for number in progress(range(len(questions))):
        question, other = questions[number], questions[(number + 1) % len(questions)]
        without = tuple(p for p, gold in zip(question.passages, question.gold, strict=True) if not gold)
        for kind, passages in enumerate((question.passages, without, other.passages)):
            if passages:
                found[number, kind] = _signals(question.query, passages, parts, embedding=embedding)
    return found


def fit(signals: Numbers, folds: int = 5) -> FittedAbstention:
    """Fit the weights, and measure them on questions that took no part.

    Args:
        signals: as `signals_of` gives.
        folds: questions are dealt out in turn; each fold is judged by weights of the others.
    """
    unseen = np.full(signals.shape[:2], np.nan)
    fold = np.arange(len(signals)) % folds
    for number in range(folds):
        if (own := fold == number).any():
            unseen[own] = _probabilities(signals[own], _logistic(signals[~own]))
    by_threshold = tuple(
        {"abstain": t, **{kind: _share(unseen[:, k] < t, unseen[:, k]) for k, kind in enumerate(KINDS)}}
        for t in THRESHOLDS
    )
    attention = _logistic(signals[:, :, :1])
    cosine = _logistic(signals) if signals.shape[2] == 2 else None
    return FittedAbstention(
        Abstention(tuple(attention), None if cosine is None else tuple(cosine)),  # type: ignore[arg-type]
        by_threshold,
        {kind: auroc(unseen[:, 0], unseen[:, k]) for k, kind in enumerate(KINDS) if k},
    )


def auroc(higher: Numbers, lower: Numbers) -> float:
    """The chance that one of the first is above one of the second, a tie counting half; NaN are left out."""
    above, below = higher[~np.isnan(higher)][:, None], lower[~np.isnan(lower)][None]
    return float((above > below).mean() + (above == below).mean() / 2) if above.size and below.size else float("nan")


def _signals(query: str, passages: Sequence[Passage], parts: Parts, *, embedding: bool) -> list[float]:
    context = Context(query, tuple(p.ranked(rank) for rank, p in enumerate(passages)), parts.count)
    evidence = Evidence(context, units_of(context, "sentence"), Run(parts), embedding=embedding, bm25=False)
    evidence.features()
    best_unit, on_prefix, cosine = evidence.signals or (0.0, None, None)
    if on_prefix is None:
        raise InvalidInputError("this reader does not say what attention stays on the prefix; use `Reader`")
    return [drawn(best_unit, on_prefix), *([] if cosine is None else [cosine])]


def _logistic(signals: Numbers) -> list[float]:
    """Intercept and weights; each kind of context has its share of the weight."""
    kinds = np.broadcast_to(np.arange(len(KINDS)), signals.shape[:2])
    there = ~np.isnan(signals[:, :, 0])
    given, kind = signals[there], kinds[there]
    counts = np.bincount(kind, minlength=len(KINDS))
    weight = (np.array(_WEIGHTS) / np.maximum(counts, 1))[kind]
    weight *= np.where(kind == 0, 0.5 / weight[kind == 0].sum(), 0.5 / max(weight[kind > 0].sum(), 1e-9))
    slopes, bias = logistic(given, (kind == 0).astype(np.int64), weight, _RIDGE)
    return [round(float(value), 4) for value in (bias, *slopes)]


def _probabilities(signals: Numbers, weights: Sequence[float]) -> Numbers:
    odds: Numbers = np.clip(weights[0] + signals @ np.array(weights[1:]), -50, 50)
    result: Numbers = 1 / (1 + np.exp(-odds))
    return result


def _share(refused: NDArray[Any], known: Numbers) -> float:
    there = ~np.isnan(known)
    return round(float(refused[there].mean()), 4) if there.any() else float("nan")
