"""Results on disk, one JSON line each: what a run goes on from, and what a later run is compared with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctxshaper.data.json import parse_json
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.questions import Question

FILE = "results.jsonl"
Row = dict[str, Any]
# What a generator is asked for; before 0.2 these stood in the recipe's own line, without the generator's name.
ASKED = ("likelihood", "em", "f1", "distraction")


class Results:
    """The results that a file holds, by key; new ones are appended as they come.

    Args:
        file: JSON lines; it need not be there yet. A last line that was cut off half way is removed.

    Raises:
        InvalidInputError: the file holds something else.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rows: dict[str, Row] = {row["key"]: row for row in _read(file, mend=True)}
        file.parent.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> Row:
        return self._rows[key]

    def add(self, row: Row) -> None:
        """Keep a result and write it at once."""
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
        self._rows[row["key"]] = row


def hashed(parts: Any) -> str:
    """A short name for plain data: the same for the same data."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()


def identity(question: Question) -> str:
    """What a question is known by in any version: its text, answers, passages and marks."""
    return hashed(
        (
            question.text,
            question.answers,
            [(p.title, p.source) for p in question.passages],
            sorted(question.gold),
            [(rank, span.start, span.end) for rank, span in question.evidence],
            question.unanswerable,
        )
    )


def column(measure: str, generator: str, generators: Sequence[str]) -> str:
    """What a generator's measure is called: with its name only where several are asked."""
    return measure if len(generators) == 1 else f"{measure}@{generator}"


def earlier_results(folder: Path, generators: Sequence[str]) -> list[Row]:
    """What an earlier `ctxshaper eval`, perhaps of another version, left in its folder: one row per line of its report.

    Of several results for the same question, recipe and budget the newest counts.

    Args:
        folder: the earlier run's `--out`.
        generators: whose measures are wanted, by name.

    Raises:
        InvalidInputError: no results are there.
    """
    if not (folder / FILE).is_file():
        raise InvalidInputError(f"{folder} holds no {FILE}; name the folder that an earlier ctxshaper eval wrote")
    made: dict[tuple[str, str, str], Row] = {}
    for row in _read(folder / FILE):
        line = made.setdefault(_line(row, "identity" if "identity" in row else "question"), {})
        generator = str(row.get("generator", ""))
        asked = {name: row[name] for name in ASKED if name in row}
        line |= {name: value for name, value in row.items() if name not in asked}
        if generator in generators:
            line |= {column(name, generator, generators): value for name, value in asked.items()}
    return list(made.values())


def matched(rows: Iterable[Row], earlier: Iterable[Row]) -> Iterator[tuple[Row, Row]]:
    """Pairs of a result and the earlier one of the same question, recipe and budget.

    A question is known by its `identity`. Results of before 0.2 have none: they are found by the data's name for the
    question, or its text, as long as it is that of one question alone.
    """
    rows = list(rows)
    by_identity = {_line(row, "identity"): row for row in earlier if "identity" in row}
    by_name = _single((row for row in earlier if "identity" not in row), "question")
    own = _single(rows, "question")
    for row in rows:
        found = by_identity.get(_line(row, "identity"))
        if found is None and _line(row, "question") in own:
            found = by_name.get(_line(row, "question"))
        if found is not None:
            yield row, found


def _single(rows: Iterable[Row], name: str) -> Mapping[tuple[str, str, str], Row]:
    """Rows by the question's name, without names that several rows share."""
    found: dict[tuple[str, str, str], Row | None] = {}
    for row in rows:
        found[_line(row, name)] = None if _line(row, name) in found else row
    return {line: row for line, row in found.items() if row is not None}


def _line(row: Row, name: str) -> tuple[str, str, str]:
    return str(row.get(name, "")), row["recipe"], row["budget"]


def _read(file: Path, *, mend: bool = False) -> Iterator[Row]:
    """The rows of a file; a last line that was cut off half way is left out and, where asked for, removed."""
    if not file.exists():
        return
    good = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            row = parse_json(line, f"{file}, line {number}")
            if not isinstance(row, dict) or not all(
                isinstance(row.get(name), str) for name in ("key", "question", "recipe", "budget")
            ):
                raise InvalidInputError(f"{file}, line {number}: not a result of this command; choose another folder")
            yield row
            good += len(line)
    if mend:
        with file.open("r+b") as lines:
            lines.truncate(good)
