"""The distracting effect by kind of passage, and what the filter costs and gains.

    python benchmarks/distraction.py --data ../shared/data

RGB (counterfactual) and NQ-20 with hard distractors. The filter's guard was chosen to keep gold on both data sets; its
figures here are of odd ones. RGB is for evaluation only (CC BY-NC-SA): none of its text is printed.
"""

import argparse
import json
import random
import time
import warnings
from pathlib import Path

import numpy as np
import torch

from ctxshaper import Abstention, Context, DistractionFilter, Passage, Reader
from ctxshaper.calibration.orders import scorer
from ctxshaper.evaluation.loaders import load_questions
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question
from ctxshaper.generators import LocalGenerator


def main() -> None:
    """Measure what the options ask for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default=None, help="of the distracting effect; the embedded one if left out")
    parser.add_argument("--rgb", type=int, default=100, help="questions of RGB")
    parser.add_argument("--hard", type=int, default=40, help="questions of NQ-20 for distractors against random ones")
    parser.add_argument("--filter", type=int, default=37, help="odd questions of NQ-20 for the filter")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    abstention = Abstention(arguments.model)
    print("check", abstention.check, "follows:", abstention.check.follows, flush=True)
    hard = load_questions(arguments.data / "nq20_hard.jsonl")
    rgb(abstention, arguments.data / "rgb_counterfactual.jsonl", arguments.rgb)
    distractors(abstention, hard[: arguments.hard])
    filtered(abstention, hard[1::2][: arguments.filter])


def rgb(abstention: Abstention, path: Path, count: int) -> None:
    """Mean DE by class, and how often a class outranks `negative` within a question."""
    started, kinds = time.perf_counter(), ("positive", "positive_wrong", "negative")
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for line in path.read_text(encoding="utf-8").splitlines()[:count]:
        entry = json.loads(line)
        groups = [entry[kind][:3] for kind in kinds]
        logs = abstention.log_abstain(entry["query"], [text for group in groups for text in group])
        for kind, own in zip(kinds, np.split(logs, np.cumsum([len(g) for g in groups])[:-1]), strict=True):
            found[kind].append(own)
    for kind in kinds:
        report(f"RGB {kind}", np.concatenate(found[kind]))
    for kind in kinds[:2]:
        print(f"  {kind} above negative within a question: {above(found[kind], found['negative']):.3f}")
    print(f"  {time.perf_counter() - started:.0f} s", flush=True)


def distractors(abstention: Abstention, questions: list[Question]) -> None:
    """Mean DE of a question's own distractors against passages of other questions."""
    started, source = time.perf_counter(), random.Random(0)
    own, foreign, gold = [], [], []
    for number, question in enumerate(questions):
        near = source.sample([i for i in range(len(question.passages)) if i not in question.gold], 6)
        far = [source.choice(q.passages) for q in source.sample([*questions[:number], *questions[number + 1 :]], k=6)]
        right = [question.passages[i] for i in sorted(question.gold)]
        logs = abstention.log_abstain(question.text, [*(question.passages[i] for i in near), *far, *right])
        own.append(logs[:6])
        foreign.append(logs[6:12])
        gold.append(logs[12:])
    for name, logs in (("distractors", own), ("random", foreign), ("gold", gold)):
        report(f"NQ-20 {name}", np.concatenate(logs))
    print(f"  distractor above random within a question: {above(own, foreign):.3f}")
    print(f"  gold above random within a question: {above(gold, foreign):.3f}")
    gain = paired_gain([-x.mean() for x in own], [-x.mean() for x in foreign])
    print(f"  mean -log P(abstain), distractors minus random: {gain}")
    print(f"  {time.perf_counter() - started:.0f} s", flush=True)


def filtered(abstention: Abstention, questions: list[Question]) -> None:
    """Gold kept and the answer's log-likelihood, full against filtered, by what happens if the model fails."""
    score, reader = scorer(LocalGenerator(), "log-likelihood"), Reader()
    whole = [score(prompt(q.text, q.passages), q.answers) for q in questions]
    for mode in ("pass", "use"):
        stage = DistractionFilter(reader=reader, abstention=abstention, when_ignored=mode)
        kept, total, passages, scores, seconds = 0, 0, 0, [], 0.0
        for question, before in zip(questions, whole, strict=True):
            marked = [
                Passage(p.text, metadata={**p.metadata, "gold": i in question.gold}, rank=i)
                for i, p in enumerate(question.passages)
            ]
            started = time.perf_counter()
            shaped = stage(Context(question.text, tuple(marked), reader.count_tokens)).passages
            seconds += time.perf_counter() - started
            kept += sum(p.metadata["gold"] for p in shaped)
            total += len(question.gold)
            passages += len(shaped)
            same = len(shaped) == len(marked)
            scores.append(before if same else score(prompt(question.text, shaped), question.answers))
        offered = sum(len(q.passages) for q in questions)
        print(f"filter, when_ignored={mode}: gold kept {kept}/{total} = {kept / total:.3f}; passages kept ", end="")
        print(f"{passages / offered:.3f}; log-likelihood {np.mean(whole):.4f} -> {np.mean(scores):.4f}", end="")
        print(f" {paired_gain(scores, whole)}; {seconds / len(questions):.2f} s a question", flush=True)


def above(high: list[np.ndarray], low: list[np.ndarray]) -> float:
    """How often a passage of one kind is more distracting than one of the other, of the same question; 0.5: chance."""
    pairs = [
        (h[:, None] < n).mean() + (h[:, None] == n).mean() / 2
        for h, n in zip(high, low, strict=True)
        if h.size and n.size
    ]
    return float(np.mean(pairs))


def report(name: str, logs: np.ndarray) -> None:
    """Print one kind's figures; `logs` are log P(abstain)."""
    effects = -np.expm1(logs)
    print(f"{name}: n={len(logs)} mean DE {effects.mean():.5f} (hard > 0.8: {(effects > 0.8).mean():.3f}), ", end="")
    print(f"mean log P(abstain) {logs.mean():.3f}")


if __name__ == "__main__":
    main()
