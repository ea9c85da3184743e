"""`ctxshaper mine-distractors`: finds or writes passages that would mislead, for fine-tuning and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import track

from ctxshaper.data import Passage
from ctxshaper.data.files import passage_from_json
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
    asked = _questions(questions)
    texts = _corpus(corpus) if corpus is not None else []
    if corpus is None and generator is None:
        raise InvalidInputError("nothing to mine from: pass --corpus to retrieve, --generator to write, or both")
    from ctxshaper.evaluation.mining import KINDS, CorpusIndex, MinedFile, retrieved, written
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
        index = CorpusIndex(texts)
    reader = Reader() if rerank else None
    writer = LocalGenerator(generator) if generator and left else None
    total = 0
    for question, answers in track(left, "Mining", console=console):
        found = []
        if index is not None:
            order = None if reader is None else lambda q, p: list(reader.read(q, p).passage_scores())
            found += retrieved(index, question, answers, skew=skew, weight=weight, count=count, pool=pool, rerank=order)
        if writer is not None:
            found += [d for kind in KINDS if (d := written(writer, question, answers, kind)) is not None]
        file.add(question, found)
        total += len(found)
    console.print(f"{total} distractors for {len(left)} questions written to {out}")


def _corpus(path: Path) -> list[Passage]:
    if not path.is_file():
        raise InvalidInputError(f"there is no file {str(path)!r}")
    return [passage_from_json(entry, where) for where, entry in json_values(path)]


def _answers(answers: Any, where: str) -> tuple[str, ...]:
    if not isinstance(answers, list) or not answers or not all(isinstance(a, str) for a in answers):
        raise InvalidInputError(f"{where}: answers must be a list of texts, but got {answers!r:.80}")
    return tuple(answers)


def _questions(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Questions and their answers."""
    if not path.is_file():
        raise InvalidInputError(f"there is no file {str(path)!r}")
    found = []
    for where, entry in json_values(path):
        if not isinstance(entry, dict):
            raise InvalidInputError(f"{where}: a question must be a JSON object, but got {entry!r:.60}")
        question = entry.get("question", entry.get("query"))
        lacking = ["question or query"] if question is None else []
        lacking += ["answers"] if "answers" not in entry else []
        if lacking:
            raise InvalidInputError(f"{where}: no {' and '.join(lacking)}")
        found.append((str(question), _answers(entry["answers"], where)))
    return found
