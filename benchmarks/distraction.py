"""The distracting effect by kind of passage, and what DistractionFilter costs and gains.

RGB (counterfactual) and NQ-20 with hard distractors. The filter's guard was chosen to keep gold on both data sets; its
figures here are of odd questions. RGB is for evaluation only (CC BY-NC-SA): none of its text is printed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.questions import DATA, FILES, NATURAL, context_of
from benchmarks.table import Table
from ctxshaper import DistractionFilter, LanguageModel, LocalGenerator, Parts
from ctxshaper.calibration.orders import scorer
from ctxshaper.evaluation.loaders import load_questions
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question
from ctxshaper.stages.distraction_filter.abstention import Abstention

Logs = list[NDArray[np.float64]]
_KINDS = ("positive", "positive_wrong", "negative")
# So many of a question's own distractors are held against as many passages of other questions.
_DRAWN = 6


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--model", help="of the distracting effect; the embedded one if left out")
    parser.add_argument("--rgb", type=int, default=100, help="questions of RGB")
    parser.add_argument("--hard", type=int, default=40, help="questions of NQ-20 for distractors against random ones")
    parser.add_argument("--filter", type=int, default=37, help="odd questions of NQ-20 for the filter")


def run(arguments: argparse.Namespace) -> list[Table]:
    """The effect of the kinds of RGB, of distractors against random passages, and the filter."""
    torch.set_num_threads(1)
    model = LanguageModel(arguments.model)
    abstention = Abstention(model)
    check = abstention.check
    note = (
        f"{model.name} {'follows' if check.follows else 'ignores'} the instruction to abstain: distracting effect "
        f"of unrelated passages {check.unrelated:.3f}, of answering ones {check.answering:.3f}, ordered "
        f"{check.ordered:.2f}."
    )
    hard = load_questions(arguments.data / FILES[NATURAL])
    return [
        Table(
            "distracting effect",
            {**rgb(abstention, arguments.data, arguments.rgb), **distractors(abstention, hard[: arguments.hard])},
            [note, "Ordered: how often it is above the kind named last, within a question; chance is 0.5."],
        ),
        filtered(model, hard[1::2][: arguments.filter]),
    ]


def rgb(abstention: Abstention, folder: Path, count: int) -> dict[str, dict[str, float]]:
    """The kinds of RGB. The loader shuffles them, as a retriever would; here the kinds are wanted."""
    found: dict[str, Logs] = {kind: [] for kind in _KINDS}
    for line in (folder / "rgb_counterfactual.jsonl").read_text(encoding="utf-8").splitlines()[:count]:
        entry: dict[str, Any] = json.loads(line)
        groups = [entry[kind][:3] for kind in _KINDS]
        logs = abstention.log_abstain(entry["query"], [text for group in groups for text in group])
        for kind, own in zip(_KINDS, np.split(logs, np.cumsum([len(g) for g in groups])[:-1]), strict=True):
            found[kind].append(own)
    return {f"RGB, {kind}": figures(found[kind], found["negative"]) for kind in _KINDS}


def distractors(abstention: Abstention, questions: list[Question]) -> dict[str, dict[str, float]]:
    """A question's own distractors against passages of other questions."""
    draw = random.Random(0)
    found: dict[str, Logs] = {"distractors": [], "gold": [], "random": []}
    for number, question in enumerate(questions):
        near = draw.sample([i for i in range(len(question.passages)) if i not in question.gold], _DRAWN)
        others = draw.sample([*questions[:number], *questions[number + 1 :]], k=_DRAWN)
        far = [draw.choice(other.passages) for other in others]
        gold = [question.passages[i] for i in sorted(question.gold)]
        logs = abstention.log_abstain(question.text, [*(question.passages[i] for i in near), *far, *gold])
        found["distractors"].append(logs[:_DRAWN])
        found["random"].append(logs[_DRAWN : 2 * _DRAWN])
        found["gold"].append(logs[2 * _DRAWN :])
    return {f"NQ-20, {kind}": figures(logs, found["random"]) for kind, logs in found.items()}


def figures(logs: Logs, others: Logs) -> dict[str, float]:
    """Of one kind; `logs` are log P(abstain) by question."""
    every = np.concatenate(logs)
    effects = -np.expm1(every)
    return {
        "n": len(every),
        "mean": float(effects.mean()),
        "above 0.8": float((effects > 0.8).mean()),
        "mean log P(abstain)": float(every.mean()),
        "ordered": above(logs, others),
    }


def above(high: Logs, low: Logs) -> float:
    """How often a passage of one kind is more distracting than one of the other, of the same question; 0.5: chance."""
    pairs = [
        (h[:, None] < n).mean() + (h[:, None] == n).mean() / 2
        for h, n in zip(high, low, strict=True)
        if h.size and n.size
    ]
    return float(np.mean(pairs))


def filtered(model: LanguageModel, questions: Sequence[Question]) -> Table:
    """Gold kept and the answer's log-likelihood, full against filtered, by what happens if the model fails."""
    score = scorer(LocalGenerator(), "log-likelihood")
    parts = Parts(language_model=model)
    whole = [score(prompt(q.text, q.passages), q.answers) for q in questions]
    rows: dict[str, dict[str, float]] = {}
    for mode in ("pass", "use"):
        stage = replace(DistractionFilter(), when_ignored=mode)
        gold, passages, scores, seconds = 0, 0, [], 0.0
        for question, before in zip(questions, whole, strict=True):
            context = context_of(question, parts.count)
            started = time.perf_counter()
            shaped = stage(context, parts).passages
            seconds += time.perf_counter() - started
            gold += sum(p.rank in question.gold for p in shaped)
            passages += len(shaped)
            same = len(shaped) == len(question.passages)
            scores.append(before if same else score(prompt(question.text, shaped), question.answers))
        gain = paired_gain(scores, whole)
        rows[f"when_ignored={mode}"] = {
            "gold kept": gold / sum(len(q.gold) for q in questions),
            "passages kept": passages / sum(len(q.passages) for q in questions),
            "log-likelihood, whole": float(np.mean(whole)),
            "filtered": float(np.mean(scores)),
            "gain": gain.gain,
            "95% from": gain.low,
            "to": gain.high,
            "p": gain.p,
            "seconds a question": seconds / len(questions),
        }
    return Table("DistractionFilter on NQ-20", rows)
