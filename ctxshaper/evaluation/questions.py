"""Labelled questions, and a small made-up set that ships."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

from ctxshaper.data import Passage, Span
from ctxshaper.data.json import parse_json

# Where a piece of evidence lies: the index of its passage, and the range of that passage's source.
Evidence = tuple[int, Span]


@dataclass(frozen=True)
class Question:
    """A question whose answer or evidence is known.

    Attributes:
        text: the question.
        answers: accepted answers; empty if unknown.
        passages: in the order of the data.
        gold: indices of the passages that hold the evidence.
        evidence: the supporting sentences; empty where the data marks whole passages, or nothing.
        id: the data's name for the question; empty if it has none.
        unanswerable: whether the data says that none of these passages answers.
    """

    text: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    gold: frozenset[int]
    evidence: tuple[Evidence, ...] = ()
    id: str = ""
    unanswerable: bool = False


def made_up_questions() -> list[Question]:
    """Questions about invented things, each with the one passage that answers it; the others serve as distractors.

    No model can know the answers, so what it gets right it read.
    """
    entries = parse_json(files("ctxshaper.evaluation").joinpath("data", "made_up.json").read_bytes(), "made_up.json")
    passages = tuple(Passage(entry["text"], metadata={"title": entry["title"]}) for entry in entries)
    return [Question(e["question"], (e["answer"],), passages, frozenset([i])) for i, e in enumerate(entries)]
