"""`ctxshaper mine-distractors`: finds or writes passages that would mislead, for fine-tuning and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import track

from ctxshaper.data import Passage
from ctxshaper.data.json import json_values
from ctxshaper.errors import InvalidInputError


def mine_distractors(
    questions: Annotated[Path, typer.Argument(help="JSON lines with question (or query) and answers.")],
    out: Annotated[Path, typer.Argument(help="JSON lines; a run that was cut off goes on where it stopped.")],
    corpus: Annotated[
        Path | None, typer.Option(help="JSON lines with text, and title and id if there are; needed to retrieve.")
    ] = None,
    skew: Annotated[
        Literal["standard", "sub", "proj"], typer.Option(help="How the query turns away from the answer.")
    ] = "sub",
    weight: Annotated[float, typer.Option(min=0.0, help="Lambda of the skew.")] = 1.0,
    count: Annotated[int, typer.Option(min=1, help="Retrieved distractors per question.")] = 5,
    pool: Annotated[int, typer.Option(min=1, help="Hits that are looked at.")] = 20,
    rerank: Annotated[bool, typer.Option(help="Order the hits by the reader's attention.")] = False,
    generator: Annotated[
        str | None, typer.Option(help="A local model that writes distractors of four kinds; none if left out.")
    ] = None,
) -> None:
    """Mine hard distractors: passages near a question that do not answer it."""
    # Files are looked at first: what follows takes seconds to import.
    asked = [(_question(e), _answers(e, questions)) for e in _entries(questions, ("question", "query"), ("answers",))]
    texts = _entries(corpus, ("text",)) if corpus is not None else []
    if corpus is None and generator is None:
        raise InvalidInputError("nothing to mine from: pass --corpus to retrieve, --generator to write, or both")
    from ctxshaper.evaluation.mining import WAYS, CorpusIndex, MinedFile, retrieved, written
    from ctxshaper.generators import LocalGenerator
    from ctxshaper.reading.reader import Reader

    console = Console(stderr=True)
    file = MinedFile(out)
    done = file.done()
    left = [(question, answers) for question, answers in asked if question not in done]
    if done:
        console.print(f"{len(asked) - len(left)} of {len(asked)} questions are already in {out}")
    index = None
    if corpus is not None and left:
        index = CorpusIndex(
            [
                Passage(str(e["text"]), id=None if e.get("id") is None else str(e["id"]), metadata=_title(e))
                for e in texts
            ]
        )
    reader = Reader() if rerank else None
    writer = LocalGenerator(generator) if generator and left else None
    total = 0
    for question, answers in track(left, "Mining", console=console):
        found = []
        if index is not None:
            order = None if reader is None else lambda q, p: list(reader.read(q, p).passage_scores())
            found += retrieved(index, question, answers, skew=skew, weight=weight, count=count, pool=pool, rerank=order)
        if writer is not None:
            found += [d for way in WAYS if (d := written(writer, question, answers, way)) is not None]
        file.add(question, found)
        total += len(found)
    console.print(f"{total} distractors for {len(left)} questions written to {out}")


def _title(entry: dict[str, Any]) -> dict[str, Any]:
    return {"title": entry["title"]} if entry.get("title") else {}


def _answers(entry: dict[str, Any], path: Path) -> tuple[str, ...]:
    answers = entry["answers"]
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise InvalidInputError(f"{path}: answers must be a list of texts, but one question has {answers!r:.80}")
    return tuple(answers)


def _question(entry: dict[str, Any]) -> str:
    return str(entry["question"] if "question" in entry else entry["query"])


def _entries(path: Path, *needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """Entries of a JSON or JSON-lines file that hold of each group of names at least one."""
    if not path.is_file():
        raise InvalidInputError(f"there is no file {str(path)!r}")
    found = []
    for where, entry in json_values(path):
        lacking = [group for group in needed if not isinstance(entry, dict) or not any(n in entry for n in group)]
        if lacking:
            raise InvalidInputError(f"{where}: no {' and '.join(' or '.join(group) for group in lacking)}")
        found.append(entry)
    return found
