"""Labelled questions: the formats of HotpotQA and Lost in the Middle, and a small made-up set that ships."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctxshaper.context import Passage
from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True)
class Question:
    """A question whose answer and evidence are known.

    Attributes:
        text: the question.
        answers: accepted answers.
        passages: in the order of the data.
        gold: indices of the passages that hold the evidence.
    """

    text: str
    answers: tuple[str, ...]
    passages: tuple[Passage, ...]
    gold: frozenset[int]


def load_questions(path: str | Path) -> list[Question]:
    """Read labelled questions.

    Args:
        path: HotpotQA's distractor JSON, or JSON lines with `question`, `answers` and `ctxs` (`title`, `text`,
            `isgold`) as in Lost in the Middle.

    Raises:
        InvalidInputError: the file cannot be read or has another format; the message names the entry.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        entries = json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.splitlines() if x]
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as JSON or JSON lines: {error}") from error
    questions = []
    for number, entry in enumerate(entries, start=1):
        try:
            questions.append(_ctxs(entry) if "ctxs" in entry else _hotpot(entry))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"{path}, entry {number}: neither HotpotQA (context, supporting_facts, answer) nor Lost in the Middle "
                f"(question, answers, ctxs): {error!r}"
            ) from error
    return questions


def made_up_questions() -> list[Question]:
    """Questions about invented things, each with the one passage that answers it; the others serve as distractors.

    No model can know the answers, so what it gets right it read.
    """
    text = files("ctxshaper.evaluation").joinpath("data", "made_up.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    passages = tuple(Passage(entry["text"], metadata={"title": entry["title"]}) for entry in entries)
    return [Question(e["question"], (e["answer"],), passages, frozenset([i])) for i, e in enumerate(entries)]


def _ctxs(entry: Mapping[str, Any]) -> Question:
    passages = tuple(Passage(c["text"], metadata={"title": c.get("title", "")}) for c in entry["ctxs"])
    gold = frozenset(i for i, c in enumerate(entry["ctxs"]) if c["isgold"])
    return Question(entry["question"], tuple(entry["answers"]), passages, gold)


def _hotpot(entry: Mapping[str, Any]) -> Question:
    context: Sequence[tuple[str, Sequence[str]]] = entry["context"]
    passages = tuple(Passage("".join(sentences), metadata={"title": title}) for title, sentences in context)
    evidence = {title for title, _ in entry["supporting_facts"]}
    gold = frozenset(i for i, (title, _) in enumerate(context) if title in evidence)
    return Question(entry["question"], (entry["answer"],), passages, gold)
