"""Loads labelled questions in public formats, from a local path or the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ctxshaper.errors import CtxshaperError, InvalidInputError, MissingDependencyError
from ctxshaper.evaluation.loaders.beir import beir
from ctxshaper.evaluation.loaders.documents import babilong, longbench, loogle, nolima
from ctxshaper.evaluation.loaders.files import Entry, entries
from ctxshaper.evaluation.loaders.passages import hotpotqa, lost_in_the_middle, musique, own, rgb
from ctxshaper.evaluation.questions import Question

Converter = Callable[[Entry], Question | Iterator[Question]]

# By name: the fields that an entry of the format has, and what makes a question of it. The first that fits is taken.
_BY_ENTRY: dict[str, tuple[tuple[str, ...], Converter]] = {
    "hotpotqa": (("question", "context", "supporting_facts", "answer"), hotpotqa),
    "2wikimultihopqa": (("question", "context", "supporting_facts", "answer"), hotpotqa),
    "musique": (("question", "paragraphs", "answer"), musique),
    "lost-in-the-middle": (("question", "answers", "ctxs"), lost_in_the_middle),
    "rgb": (("query", "answer", "positive", "negative"), rgb),
    "longbench": (("input", "context", "answers"), longbench),
    "loogle": (("input", "qa_pairs"), loogle),
    "babilong": (("input", "question", "target"), babilong),
    "jsonl": (("query", "passages"), own),
}
_NEEDLE = ("needle", "questions", "character_set", "tests")
# LooGLE's newer layout has one question an entry; our own says question as well as query.
_ALSO = {"loogle": ("context", "question", "answer", "evidence"), "jsonl": ("question", "passages")}

FORMATS = (*_BY_ENTRY, "nolima", "beir")


def load_questions(path: str | Path, format: str | None = None) -> list[Question]:
    """Read labelled questions.

    Args:
        path: a .json, .jsonl or .jsonl.gz file; a folder for BEIR; or `hub:OWNER/NAME:SPLIT` or
            `hub:OWNER/NAME:CONFIG:SPLIT` for a data set of the hub, which needs `datasets`.
        format: one of `FORMATS`; None to tell it by the fields of the first entry.

    Raises:
        InvalidInputError: nothing there, an unknown format, or an entry that does not fit; the message names the line.
        MissingDependencyError: the hub is asked for, and `datasets` is not installed.
    """
    if format is not None and format not in FORMATS:
        raise InvalidInputError(f"there is no format {format!r}; there are {', '.join(FORMATS)}")
    if str(path).startswith("hub:"):
        return _convert(_from_hub(str(path)), format, str(path))
    place = Path(path)
    if place.is_dir() and format in (None, "beir"):
        return _found(beir(place), place)
    if not place.is_file():
        raise InvalidInputError(f"there is no file {str(path)!r}" + (" (a folder must be BEIR's)" * place.is_dir()))
    if format == "beir":
        raise InvalidInputError(f"{path} is a file; BEIR's format is a folder of corpus.jsonl, queries.jsonl, qrels/")
    rows = list(entries(place))
    if format == "nolima" or (format is None and rows and _has(rows[0][1], _NEEDLE)):
        return _found(nolima(place), place)
    return _convert(rows, format, str(path))


def _convert(rows: Iterable[tuple[str, Entry]], format: str | None, name: str) -> list[Question]:
    questions: list[Question] = []
    for where, entry in rows:
        format = format or _detect(entry, where)
        try:
            made = _BY_ENTRY[format][1](entry)
            questions += [made] if isinstance(made, Question) else list(made)
        except CtxshaperError as error:
            raise InvalidInputError(f"{where}: {error}") from error
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidInputError(f"{where}: not an entry of the format {format}: {reason}") from error
    return _found(questions, name)


def _found(questions: list[Question], name: str | Path) -> list[Question]:
    if not questions:
        raise InvalidInputError(f"{name} holds no question")
    return questions


def _has(entry: Entry, fields: Iterable[str]) -> bool:
    return all(field in entry for field in fields)


def _detect(entry: Entry, where: str) -> str:
    for name, (fields, _) in _BY_ENTRY.items():
        if _has(entry, fields):
            return name
    for name, fields in _ALSO.items():
        if _has(entry, fields):
            return name
    raise InvalidInputError(
        f"{where}: of no known format (its fields are {', '.join(map(str, entry)) or 'none'}); name one of "
        f"{', '.join(FORMATS)}, or write lines with query (or question) and passages"
    )


def _from_hub(name: str) -> Iterator[tuple[str, Entry]]:
    parts = name.removeprefix("hub:").split(":")
    if len(parts) not in (2, 3) or not all(parts):
        raise InvalidInputError(
            f"a data set of the hub is hub:OWNER/NAME:SPLIT or hub:OWNER/NAME:CONFIG:SPLIT, got {name}"
        )
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependencyError(f"{name} needs pip install datasets; local files need nothing") from error
    config = parts[1] if len(parts) == 3 else None
    try:
        rows: Any = load_dataset(parts[0], config, split=parts[-1])
    except Exception as error:  # what the hub, the network and the data set's files may raise is anything
        raise InvalidInputError(f"{name} cannot be loaded: {error}") from error
    for number, row in enumerate(rows, start=1):
        yield f"{name}, row {number}", row
