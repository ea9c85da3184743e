"""What the baselines QRHead and Sentinel need to know of a model, fitted on made-up questions.

QRHead: the heads whose question pays most attention to the passages that answer, less that of "N/A" (arXiv 2506.09944,
section 3). Sentinel: a logistic regression over the last token's attention, classes balanced, its ridge chosen by AUROC
on a third of the questions (arXiv 2505.23277, sections 2.3 and 3). Both see `synthetic_questions` and no data set. The
table tells of unseen made-up questions: the share of the evidence's sentences among the best that fill 15% or 30% of
the characters. `--write` replaces the file that ships.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import Table
from ctxshaper import Context, Parts
from ctxshaper.calibration.logistic import logistic
from ctxshaper.calibration.made_up import EvidenceQuestion, synthetic_questions
from ctxshaper.evaluation.baselines import fitted
from ctxshaper.evaluation.baselines.qrhead import by_head, summed
from ctxshaper.evaluation.baselines.sentinel import features
from ctxshaper.evaluation.baselines.whole_prompt import Documents
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.stages.units import Unit, units_of

Numbers = NDArray[np.float64]
HEADS = 16
_RIDGES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, eq=False)
class Case:
    """One made-up question as both methods see it.

    Attributes:
        context: the question and its passages.
        units: sentences.
        gold: [units] whether each is evidence.
        documents: the prompt that QRHead reads.
        found: [L, H, T] what the question attends to there more than "N/A" does.
        table: [units, L * H] Sentinel's features.
    """

    context: Context
    units: list[Unit]
    gold: NDArray[np.bool_]
    documents: Documents
    found: NDArray[np.float32]
    table: Numbers


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--questions", type=int, default=160, help="how many; a quarter of them tests")
    parser.add_argument("--write", action="store_true", help=f"write {Path(str(fitted.FILE)).name}")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Fit, and tell how well unseen questions are answered."""
    parts = Parts()
    model = parts.language_model
    cases = []
    for question in synthetic_questions(arguments.questions, languages=["en"], seed=20):
        cases.append(case_of(model, parts, question))
        print(f"{len(cases)} of {arguments.questions} questions read", end="\r", file=sys.stderr, flush=True)
    test, known = cases[::4], [case for n, case in enumerate(cases) if n % 4]
    scores = head_scores(known)
    order = np.argsort(-scores, axis=None)
    ranked = [tuple(map(int, np.unravel_index(place, scores.shape))) for place in order]
    third = known[::3], [case for n, case in enumerate(known) if n % 3]
    ridge = max(_RIDGES, key=lambda one: auroc(fit(third[1], one), third[0]))
    weights = fit(known, ridge)
    rows = {"Sentinel": kept(test, [case.table @ weights for case in test])}
    for count in (4, 8, HEADS, len(ranked)):
        by_sum = [
            case.documents.of_units(case.units, summed(case.documents, case.found, ranked[:count])) for case in test
        ]
        rows[f"QRHead, {count} heads"] = kept(test, by_sum)
    if arguments.write:
        data = {
            "model": model.name,
            "made_by": f"python -m benchmarks peer_weights --questions {arguments.questions} --write",
            "heads": [[*pair, float(f"{scores[pair]:.3g}")] for pair in ranked[:HEADS]],
            "ridge": ridge,
            "weights": [[float(f"{w:.5g}") for w in row] for row in weights.reshape(model.layers, model.heads)],
        }
        Path(str(fitted.FILE)).write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")
    return [
        Table("made-up questions, evidence among the best", rows, [f"Ridge {ridge}, {len(test)} unseen questions."])
    ]


def case_of(model: LanguageModel, parts: Parts, question: EvidenceQuestion) -> Case:
    """Read one question both ways."""
    passages = tuple(passage.ranked(rank) for rank, passage in enumerate(question.passages))
    context = Context(question.query, passages, parts.count)
    units = units_of(context, "sentence")
    gold = np.array([any(unit.span.overlaps(span) for span in question.gold[unit.passage]) for unit in units])
    documents, found = by_head(model, question.query, passages)
    return Case(context, units, gold, documents, found, features(model, question.query, passages, units))


def head_scores(cases: Sequence[Case]) -> Numbers:
    """[L, H] QR score: mean over questions of the attention that passages with evidence get."""
    total = 0.0
    for case in cases:
        places = [
            case.documents.places[rank] for rank in {u.passage for u, g in zip(case.units, case.gold, strict=True) if g}
        ]
        total = total + sum(case.found[..., start:end].sum(-1) for start, end in places)
    return np.asarray(total / len(cases), dtype=float)


def fit(cases: Sequence[Case], ridge: float) -> Numbers:
    """Sentinel's weights; evidence and the rest count alike in sum."""
    table, labels = np.concatenate([case.table for case in cases]), np.concatenate([case.gold for case in cases])
    balanced = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    return logistic(table, labels.astype(np.int64), balanced, ridge)[0]


def auroc(weights: Numbers, cases: Sequence[Case]) -> float:
    """How often a sentence of the evidence stands above another of the same question, mean over questions."""
    found = []
    for case in cases:
        scores = case.table @ weights
        found.append(np.mean(scores[case.gold][:, None] > scores[~case.gold][None]))
    return float(np.mean(found))


def kept(cases: Sequence[Case], scores: Sequence[Numbers]) -> dict[str, float]:
    """Share of the evidence's sentences among the best that fill a share of the characters."""
    found: dict[str, list[float]] = {"15%": [], "30%": []}
    for case, one in zip(cases, scores, strict=True):
        order = np.argsort(-one)
        reached = np.cumsum([len(case.units[place].span) for place in order])
        for name, shares in found.items():
            best = order[reached <= float(name[:-1]) / 100 * reached[-1]]
            shares.append(case.gold[best].sum() / case.gold.sum())
    return {name: float(np.mean(shares)) for name, shares in found.items()}
