"""The labelled questions that the benchmarks of quality share, and what counts as evidence kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ctxshaper import Context
from ctxshaper.evaluation import metrics
from ctxshaper.evaluation.loaders import load_questions
from ctxshaper.evaluation.questions import Question

# The data is not part of the repository; a comparison with another revision names the folder.
DATA = Path(os.environ.get("CTXSHAPER_BENCHMARK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
HOTPOT, NATURAL, MUSIQUE = "HotpotQA", "nq20_hard", "MuSiQue"
FILES = {HOTPOT: "hotpotqa_100.json", NATURAL: "nq20_hard.jsonl", MUSIQUE: "musique_40.jsonl"}


def load(folder: Path, names: Sequence[str] = tuple(FILES)) -> dict[str, list[Question]]:
    """The questions of these data sets."""
    return {name: load_questions(folder / FILES[name]) for name in names}


def context_of(question: Question, count: Callable[[str], int]) -> Context:
    """A question and its passages, counted in the tokens of `count`."""
    return Context(question.text, tuple(replace(p, rank=rank) for rank, p in enumerate(question.passages)), count)


def evidence_kept(question: Question, shaped: Context) -> float:
    """Share of the supporting sentences kept whole; where none are marked, 1 if an answer stands in the text."""
    kept = metrics.sentence_recall(question, shaped)
    if kept is None:
        kept = metrics.answer_in_context(question, shaped)
    return 0.0 if kept is None else kept
