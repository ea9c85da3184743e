"""Finds passages that would mislead a generator, to fine-tune or evaluate one (arXiv 2505.06914, section 4)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.data.json import parse_json
from ctxshaper.errors import InvalidInputError, MissingDependencyError
from ctxshaper.models.embedder import Embedder
from ctxshaper.text.terms import terms

Skew = Literal["standard", "sub", "proj"]
Kind = Literal["related", "hypothetical", "negation", "modal"]

KINDS: tuple[Kind, ...] = ("related", "hypothetical", "negation", "modal")

# What each kind of written distractor is to be; the question and the answer follow as data on lines of their own.
_TASKS: dict[Kind, str] = {
    "related": "Write a short encyclopedia passage on the subject of the question that does not answer it.",
    "hypothetical": "Write a short passage about an imagined world or a changed condition, in which the question has "
    "another answer than the one given; make the condition plain.",
    "negation": "Write a short encyclopedia passage that names a wrong answer to the question and denies it.",
    "modal": "Write a short encyclopedia passage that offers a wrong answer to the question as a mere possibility, "
    "with words such as may or is thought to.",
}


class Writer(Protocol):
    """Any generator."""

    def generate(self, prompt: str) -> str:
        """The answer to a prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Distractor:
    """A passage that may mislead for a question, one line of the output.

    Attributes:
        question: the question.
        answers: its accepted answers.
        method: how it was found: "standard", "sub" or "proj" (retrieved), or the kind that was written.
        text: the passage.
        title: its title, or nothing.
        id: its id in the corpus; None for a written one.
        rank: its place among the hits that do not hold the answer, from 0.
        score: similarity to the (skewed) query, or the reranker's score; None for a written one.
    """

    question: str
    answers: tuple[str, ...]
    method: str
    text: str
    title: str = ""
    id: str | None = None
    rank: int = 0
    score: float | None = None


# Scripts that set no spaces between words, or hang endings onto them: there a word is found inside a run of letters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")


def holds_answer(text: str, answers: Iterable[str]) -> bool:
    """Whether an answer stands in a text, as whole words, whatever its case, punctuation and spacing."""
    words = f" {_words(text)} "
    for answer in map(_words, answers):
        wanted = answer if _UNSPACED.search(answer) else f" {answer} "
        if answer and wanted in words:
            return True
    return False


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


class CorpusIndex:
    """Passages by embedding, in FAISS; searched by exact inner product.

    Args:
        passages: the corpus.
        embedder: embeds; the embedded model if None.

    Raises:
        InvalidInputError: an empty corpus.
        MissingDependencyError: faiss is not installed.
    """

    def __init__(self, passages: Sequence[Passage | str], embedder: Embedder | None = None) -> None:
        try:
            import faiss
        except ImportError as error:
            raise MissingDependencyError("mining needs faiss; pip install 'ctxshaper[retrieval]'") from error
        if not passages:
            raise InvalidInputError("the corpus is empty; pass at least one passage")
        self.passages = tuple(map(Passage.of, passages))
        self.embedder = embedder or Embedder()
        rows = self.embedder.embed([_whole(p) for p in self.passages])
        self._index: Any = faiss.IndexFlatIP(rows.shape[1])
        self._index.add(np.ascontiguousarray(rows))

    def search(self, vector: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
        """The nearest passages to a vector [dim]: index and inner product, best first."""
        scores, found = self._index.search(vector[None].astype(np.float32), min(count, len(self.passages)))
        return [(int(i), float(s)) for i, s in zip(found[0], scores[0], strict=True) if i >= 0]


def skewed(query: NDArray[np.float32], answer: NDArray[np.float32], skew: Skew, weight: float) -> NDArray[np.float32]:
    """The query's embedding turned away from the answer's, so that hits keep the subject and lose the answer.

    `sub`: E(q) - w E(a). `proj`: E(q) - w <E(q), E(a)> E(a) / |E(a)|^2. `standard`: E(q). (arXiv 2505.06914, section 4;
    the paper's choice is `sub` with w = 1.)

    Args:
        query: [dim].
        answer: [dim].
        skew: which.
        weight: w, lambda in the paper; at 2 the hits drift off the subject, at 0.5 they hardly change.
    """
    if skew == "standard":
        return query
    if skew == "sub":
        return query - weight * answer
    if skew == "proj":
        return query - weight * float(query @ answer) / max(float(answer @ answer), 1e-12) * answer
    raise InvalidInputError(f"skew must be standard, sub or proj, but got {skew!r}")


def retrieved(
    index: CorpusIndex,
    question: str,
    answers: Sequence[str],
    *,
    skew: Skew = "sub",
    weight: float = 1.0,
    count: int = 5,
    pool: int = 20,
    rerank: Callable[[str, Sequence[Passage]], Sequence[float]] | None = None,
    entails: Callable[[str, str], bool] | None = None,
) -> list[Distractor]:
    """Hard distractors for a question from a corpus: the best hits that do not answer it.

    Args:
        index: the corpus.
        question: the question.
        answers: accepted answers; the first one skews the search, all of them exclude passages.
        skew: see `skewed`.
        weight: see `skewed`.
        count: how many to return at most.
        pool: how many hits to look at.
        rerank: scores of passages for the question, higher is better, to order the hits by; None for none.
        entails: whether a text entails a statement (an NLI model), to exclude passages that answer in other words.

    Raises:
        InvalidInputError: no answers, or a number below 1.
    """
    if not answers or count < 1 or pool < 1 or weight < 0:
        raise InvalidInputError(
            f"mining needs an answer, count >= 1, pool >= 1 and weight >= 0, but got {len(answers)} answers, "
            f"count={count}, pool={pool}, weight={weight}"
        )
    asked, answer = index.embedder.embed([question, answers[0]])
    hits = index.search(skewed(asked, answer, skew, weight), pool)
    # Another statement of the same fact answers too; string match alone would let it through.
    statement = f"The answer to {question} is {answers[0]}."
    irrelevant = [
        (i, score)
        for i, score in hits
        if not holds_answer(_whole(index.passages[i]), answers)
        and not (entails is not None and entails(_whole(index.passages[i]), statement))
    ]
    if rerank is not None and irrelevant:
        scores = rerank(question, [index.passages[i] for i, _ in irrelevant])
        irrelevant = [(i, float(s)) for (i, _), s in zip(irrelevant, scores, strict=True)]
        irrelevant.sort(key=lambda hit: -hit[1])
    method = skew if rerank is None else f"{skew}+rerank"
    return [
        Distractor(question, tuple(answers), method, passage.text, passage.title, passage.id, rank, score)
        for rank, (passage, score) in enumerate((index.passages[i], s) for i, s in irrelevant[:count])
    ]


def written(generator: Writer, question: str, answers: Sequence[str], kind: Kind) -> Distractor | None:
    """A distractor that a generator writes; None where it is of no use.

    Of no use is nothing, the question over again, and whatever holds the answer.

    Args:
        generator: anything with `generate(prompt) -> str`.
        question: the question.
        answers: accepted answers; the first is told to the generator as what not to say.
        kind: "related", "hypothetical", "negation" or "modal".

    Raises:
        InvalidInputError: another kind, or no answers.
    """
    if kind not in _TASKS or not answers:
        raise InvalidInputError(f"a distractor is written as {', '.join(KINDS)} and needs answers, but got {kind!r}")
    lines = (
        _TASKS[kind],
        "Begin with a line that holds a title alone. Never mention the correct answer, and add no comment.",
        "",
        f"Question: {question}",
        f"Correct answer, not to be mentioned: {answers[0]}",
    )
    text = generator.generate("\n".join(lines)).strip()
    first, _, rest = text.partition("\n")
    title, body = (first.strip(" #*:\t"), rest.strip()) if rest.strip() else ("", text)
    if not body or not set(terms(body)) - set(terms(question)) or holds_answer(f"{title}\n{body}", answers):
        return None
    return Distractor(question, tuple(answers), kind, body, title.removeprefix("Title:").strip())


@dataclass(frozen=True)
class MinedFile:
    """The output: JSON lines, one question after the other, so that a run that was cut off can go on.

    Attributes:
        path: where it is. Each line is a `Distractor`, or marks a question (`{"done": question}`) as finished.
    """

    path: Path

    def done(self) -> set[str]:
        """Questions that are finished. A last line cut off half way is removed, and so is an unfinished question.

        Raises:
            InvalidInputError: the file holds something else.
        """
        if not self.path.exists():
            return set()
        finished: set[str] = set()
        good, pending = 0, 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                pending += len(line)
                if not line.endswith(b"\n"):
                    break
                entry = parse_json(line, f"{self.path}, line {number}")
                if isinstance(entry, dict) and isinstance(entry.get("done"), str):
                    finished.add(entry["done"])
                    good, pending = good + pending, 0
                elif not isinstance(entry, dict) or "method" not in entry:
                    raise InvalidInputError(
                        f"{self.path}, line {number}: neither a distractor nor the mark of a finished question; choose "
                        "another file"
                    )
        with self.path.open("r+b") as file:
            file.truncate(good)
        return finished

    def add(self, question: str, found: Iterable[Distractor]) -> None:
        """Write a question's distractors and its mark."""
        lines = [json.dumps(asdict(d)) for d in found] + [json.dumps({"done": question})]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))

    def __iter__(self) -> Iterator[Distractor]:
        """The distractors in the file."""
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                entry = parse_json(line, str(self.path))
                if "done" not in entry:
                    yield Distractor(**{**entry, "answers": tuple(entry["answers"])})


def _whole(passage: Passage) -> str:
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text
