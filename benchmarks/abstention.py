"""What `auto` keeps where the passages answer, where the evidence is taken out, and of another question's passages.

Only questions that took no part in fitting `Context.answerable` count: HotpotQA from the 45th, nq20_hard from the 31st
and MuSiQue from the 17th. AUROC is the chance that an answerable context is given more than one that is not. F2, of
kept sentences against the marked ones and weighing recall twice, beside the share of tokens dropped (compression), is
what OpenProvence reports; only HotpotQA marks sentences.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.questions import DATA, HOTPOT, MUSIQUE, NATURAL, evidence_kept, load
from benchmarks.table import Table
from ctxshaper import Context, Parts, Passage, Pipeline
from ctxshaper.evaluation.questions import Question

_BUDGETS = ("5%", "15%", "30%")
_FITTED = {HOTPOT: 44, NATURAL: 30, MUSIQUE: 16}


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--sets", nargs="+", choices=tuple(_FITTED), default=tuple(_FITTED))
    parser.add_argument("--recipes", nargs="+", default=["fast", "qa"])
    parser.add_argument("--limit", type=int, help="so many questions of each set")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Tokens and evidence kept, and how well answerable contexts are told apart."""
    parts = Parts()
    rows: dict[str, dict[str, float]] = {}
    for name, questions in load(arguments.data, arguments.sets).items():
        asked = questions[_FITTED[name] :][: arguments.limit]
        for recipe in arguments.recipes:
            pipeline = Pipeline.from_recipe(recipe, reader=parts.reader, embedder=parts.embedder)
            kept: dict[str, list[float]] = {}
            likely: dict[str, list[float]] = {}
            evidence, f2 = [], list[float]()
            for number, question in enumerate(asked):
                contexts: dict[str, tuple[Passage, ...]] = {
                    "gold": question.passages,
                    "hard": tuple(p for place, p in enumerate(question.passages) if place not in question.gold),
                    "random": asked[(number + 1) % len(asked)].passages,
                }
                for kind, passages in contexts.items():
                    given = tuple(replace(passage, rank=None) for passage in passages)
                    shaped = pipeline.shape(question.text, given, "auto")
                    kept.setdefault(kind, []).append(shaped.tokens / shaped.tokens_in)
                    likely.setdefault(kind, []).append(shaped.answerable or 0.0)
                    if kind == "gold":
                        evidence.append(evidence_kept(question, shaped))
                        f2 += _f2(question, shaped)
            if f2:
                rows |= _by_budget(pipeline, asked, f"{name}, {recipe}")
            rows[f"{name}, {recipe}, {len(asked)} questions"] = {
                "evidence": float(np.mean(evidence)),
                **{f"tokens, {kind}": float(np.mean(shares)) for kind, shares in kept.items()},
                **({"F2": float(np.mean(f2))} if f2 else {}),
                "AUROC, hard": _auroc(likely["gold"], likely["hard"]),
                "AUROC, random": _auroc(likely["gold"], likely["random"]),
            }
    return [Table("auto", rows)]


def _by_budget(pipeline: Pipeline, asked: Sequence[Question], name: str) -> dict[str, dict[str, float]]:
    rows = {}
    for budget in _BUDGETS:
        given = [tuple(replace(passage, rank=None) for passage in question.passages) for question in asked]
        shaped = [pipeline.shape(question.text, one, budget) for question, one in zip(asked, given, strict=True)]
        pairs = list(zip(asked, shaped, strict=True))
        rows[f"{name}, {budget}"] = {
            "evidence": float(np.mean([evidence_kept(*pair) for pair in pairs])),
            "tokens, gold": float(np.mean([one.tokens / one.tokens_in for one in shaped])),
            "F2": float(np.mean([value for pair in pairs for value in _f2(*pair)])),
        }
    return rows


def _f2(question: Question, shaped: Context) -> list[float]:
    """F2 of the sentences that were kept, if the question marks sentences."""
    if not question.evidence:
        return []
    judged = [decision for stage in shaped.trace.stages[:1] for decision in stage.decisions]
    marked = [any(d.passage == rank and d.span.overlaps(span) for rank, span in question.evidence) for d in judged]
    right = sum(one and decision.kept for one, decision in zip(marked, judged, strict=True))
    kept = sum(decision.kept for decision in judged)
    return [5 * right / (4 * sum(marked) + kept) if sum(marked) + kept else 0.0]


def _auroc(higher: list[float], lower: list[float]) -> float:
    above, below = np.array(higher)[:, None], np.array(lower)[None]
    return float((above > below).mean() + (above == below).mean() / 2)
