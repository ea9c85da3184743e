"""How much a passage's score depends on its place among the others: read by itself, and in one prompt with them.

Found in the Middle (arXiv 2406.16008) takes an attention for relevance plus a bias of the place, and measures the bias
by a dummy in each place. Here each question's passages are read in several rotations. A score is the mean of a
passage's tokens. "Largest change" is the most that a place changes one; "moves" the standard deviation of a passage's
score over the places, as a share of that between the passages of its question; "swapped" the share of pairs of passages
that another rotation puts the other way round; "gold above" how often a passage with evidence stands above one without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.questions import DATA, FILES, HOTPOT
from benchmarks.table import Table
from ctxshaper import Passage, Reader, Reading
from ctxshaper.evaluation.loaders import load_questions

Ask = Callable[[str, Sequence[Passage]], Reading]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--questions", type=Path, default=DATA / FILES[HOTPOT], help="labelled questions")
    parser.add_argument("--limit", type=int, default=8, help="questions")
    parser.add_argument("--places", type=int, default=5, help="rotations of each question's passages")


def run(arguments: argparse.Namespace) -> list[Table]:
    """One row for each way of reading."""
    torch.set_num_threads(1)
    reader = Reader(sets=("evidence", "gem"))
    ways: dict[str, Ask] = {
        "the question alone": reader.read,
        "GemFilter, independent": lambda query, some: reader.read_gem(query, some, independent=True),
        "GemFilter, causal": reader.read_gem,
        "GemFilter, causal, calibrated": lambda query, some: reader.read_gem(query, some, calibrated=True),
    }
    questions = load_questions(arguments.questions)[: arguments.limit]
    rows = {}
    for name, ask in ways.items():
        found = [by_place(ask, question.text, question.passages, arguments.places) for question in questions]
        rows[name] = {
            "largest change": max(float(np.ptp(scores, axis=0).max()) for scores in found),
            "moves": float(np.mean([scores.std(0).mean() / scores.mean(0).std() for scores in found])),
            "swapped": float(np.mean([swapped(scores) for scores in found])),
            "gold above": float(np.mean([above(s, q.gold) for s, q in zip(found, questions, strict=True)])),
        }
    return [Table("scores of passages by their place", rows, [f"{len(questions)} questions, {reader.dtype}"])]


def by_place(ask: Ask, query: str, passages: Sequence[Passage], places: int) -> NDArray[np.float64]:
    """[places, passages] each passage's mean score, by how far the passages were rotated."""
    count = len(passages)
    table = np.zeros((min(places, count), count))
    for row in range(len(table)):
        order = np.roll(np.arange(count), row * count // len(table))
        read = ask(query, [passages[place] for place in order]).passages
        table[row, order] = [float(one.scores.astype(np.float64).mean()) for one in read]
    return table


def swapped(scores: NDArray[np.float64]) -> float:
    """The share of pairs of passages, over all pairs of rotations, that are not in the same order."""
    signs = np.array([np.sign(scores[:, a] - scores[:, b]) for a, b in combinations(range(scores.shape[1]), 2)])
    return float(np.mean([signs[:, a] != signs[:, b] for a, b in combinations(range(scores.shape[0]), 2)]))


def above(scores: NDArray[np.float64], gold: Collection[int]) -> float:
    """The share of pairs of a passage with evidence and one without that are in this order, over all rotations."""
    own = np.isin(np.arange(scores.shape[1]), list(gold))
    return float(np.mean(scores[:, own, None] > scores[:, None, ~own]))
