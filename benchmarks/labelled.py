"""HotpotQA 100 and nq20_hard as contexts with what is known to be evidence; shared by the benchmarks of selection."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ctxshaper import Context, Passage, Span

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Labelled:
    """One question.

    Attributes:
        context: the question and its passages.
        sentences: of HotpotQA, the supporting sentences: rank of the passage, and where in its source.
        answers: accepted answers.
        passages: ranks of the passages that hold the evidence.
    """

    context: Context
    sentences: Sequence[tuple[int, Span]]
    answers: Sequence[str]
    passages: frozenset[int]


def load(folder: Path, count: Callable[[str], int]) -> dict[str, list[Labelled]]:
    """Both data sets by name."""
    hotpot = []
    for entry in json.loads((folder / "hotpotqa_100.json").read_text(encoding="utf-8")):
        facts = {(title, index) for title, index in entry["supporting_facts"]}
        passages, gold = [], []
        for rank, (title, sentences) in enumerate(entry["context"]):
            passages.append(Passage("".join(sentences), metadata={"title": title}, rank=rank))
            start = 0
            for index, sentence in enumerate(sentences):
                if (title, index) in facts and sentence.strip():
                    left = start + len(sentence) - len(sentence.lstrip())
                    gold.append((rank, Span(left, start + len(sentence.rstrip()))))
                start += len(sentence)
        context = Context(entry["question"], tuple(passages), count)
        hotpot.append(Labelled(context, gold, [entry["answer"]], frozenset(rank for rank, _ in gold)))
    natural = []
    for line in (folder / "nq20_hard.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        passages = [Passage(c["text"], metadata={"title": c["title"]}, rank=n) for n, c in enumerate(entry["ctxs"])]
        held = frozenset(n for n, c in enumerate(entry["ctxs"]) if c["isgold"])
        natural.append(Labelled(Context(entry["question"], tuple(passages), count), [], entry["answers"], held))
    return {"HotpotQA": hotpot, "nq20_hard": natural}


def evidence(question: Labelled, shaped: Context) -> float:
    """Share of the supporting sentences that are kept whole; where none are marked, whether an answer still stands."""
    if not question.sentences:
        return float(any(answer.lower() in shaped.text.lower() for answer in question.answers))
    kept = {p.rank: p.spans for p in shaped.passages}
    return float(
        np.mean([any(s.start <= g.start and g.end <= s.end for s in kept.get(r, ())) for r, g in question.sentences])
    )
