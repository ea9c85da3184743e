"""Passages from files, folders and standard input."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from ctxshaper.data import Passage
from ctxshaper.data.decoding import UTF8_BOM, NotTextError, decode, opened
from ctxshaper.data.json import first_lines, json_lines, parse_json
from ctxshaper.errors import InvalidInputError

Warn = Callable[[str], None]
_STDIN = "-"
# A list of objects or strings begins so; a text in brackets does not.
_LIST = re.compile(rb"\s*\[\s*[{\"\]]")
_FIELDS = ("text", "id", "title", "score", "metadata")


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)


def iter_passages(paths: str | Path | Iterable[str | Path], warn: Warn = _warn) -> Iterator[Passage]:
    """Passages from files, folders and standard input, one at a time.

    Of a .jsonl or .ndjson file each line is a passage, of a .json file that is a list of strings or of objects with
    `text` each element; see `passage_from_json`. Any other file of text is one passage, with its path as the id, the
    name of the file as the title, and its `encoding` in the metadata where it is not UTF-8. Names ending in .gz are
    unpacked. A folder is read with all below it in the order of the names, files before folders, hidden ones left out.
    Standard input (and a pipe) is JSON lines if its first line is a JSON object or string, else read as a file. Each
    file is read once, however often it is named. JSON lines of any length are read in the memory of one line.

    Args:
        paths: one or more files and folders; `-` is standard input.
        warn: told, in one sentence each, what is left out of a folder and which file is not UTF-8.

    Raises:
        InvalidInputError: at once, a path that does not exist; while reading, a file that is no text, a line that is
            no passage, or a folder without any text.
    """
    places = [str(path) for path in ([paths] if isinstance(paths, (str, Path)) else paths)]
    for place in places:
        if place != _STDIN and not Path(place).exists():
            raise InvalidInputError(f"there is no file or folder {place!r}")
    return _passages(places, warn)


def passage_from_json(value: Any, where: str, rank: int | None = None) -> Passage:
    """The passage that a parsed JSON value describes: a string, or an object with `text`.

    An object may also have `id` (a string or number), `title`, `score` (a number) and `metadata` (an object). Other
    fields are kept as metadata; where `metadata` has the same name, the field beside `text` counts.

    Args:
        value: the value.
        where: what errors call it.
        rank: the passage's place in the retriever's list, if known.

    Raises:
        InvalidInputError: anything else.
    """
    entry = {"text": value} if isinstance(value, str) else value
    if not isinstance(entry, dict) or "text" not in entry:
        got = f"the fields {', '.join(map(repr, entry))}" if isinstance(entry, dict) and entry else repr(value)
        raise InvalidInputError(
            f'{where}: not a passage: a passage is a JSON string or an object with "text", but got {got:.120}'
        )
    text, name, title, score = (entry.get(field) for field in _FIELDS[:4])
    if not isinstance(text, str):
        raise InvalidInputError(f"{where}: not a passage: its text must be a string, but got {text!r:.60}")
    if isinstance(name, bool) or not isinstance(name, (str, int, float, type(None))):
        raise InvalidInputError(f"{where}: a passage's id must be a string or a number, but got {name!r:.60}")
    if isinstance(score, bool) or not isinstance(score, (int, float, type(None))):
        raise InvalidInputError(f"{where}: a passage's score must be a number or null, but got {score!r:.60}")
    given = entry.get("metadata") or {}
    if not isinstance(given, dict):
        raise InvalidInputError(f"{where}: a passage's metadata must be an object, but got {given!r:.60}")
    metadata = given | {field: entry[field] for field in entry if field not in _FIELDS}
    if title is not None:
        metadata["title"] = title
    try:
        return Passage(text, id=None if name is None else str(name), score=score, metadata=metadata, rank=rank)
    except (InvalidInputError, OverflowError) as error:
        raise InvalidInputError(f"{where}: not a passage: {error}") from error


def _passages(places: Iterable[str], warn: Warn) -> Iterator[Passage]:
    seen: set[str] = set()
    for place in places:
        if place == _STDIN:
            if place not in seen:
                yield from _from_stream(sys.stdin.buffer, "standard input", warn)
            seen.add(place)
        elif Path(place).is_dir():
            yield from _from_folder(Path(place), seen, warn)
        elif _is_new(Path(place), seen):
            yield from _from_file(Path(place), warn)


def _is_new(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    new = real not in seen
    seen.add(real)
    return new


def _from_folder(folder: Path, seen: set[str], warn: Warn) -> Iterator[Passage]:
    readable = 0
    for path in _files(folder, warn):
        if not _is_new(path, seen):
            readable += 1
            continue
        try:
            yield from _from_file(path, warn)
            readable += 1
        except NotTextError as error:
            warn(f"left out: {error}")
    if not readable:
        raise InvalidInputError(f"{folder} holds no file of text (hidden ones do not count)")


def _files(folder: Path, warn: Warn) -> Iterator[Path]:
    def closed(error: OSError) -> None:
        warn(f"left out: {error.filename} cannot be read: {error.strerror}")

    for root, folders, names in os.walk(folder, onerror=closed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        # Pipes and links that lead nowhere are no files.
        paths = (Path(root) / name for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _from_file(path: Path, warn: Warn) -> Iterator[Passage]:
    with opened(path) as file:
        kind = Path(path.name.removesuffix(".gz")).suffix.lower()
        if not path.is_file():
            yield from _from_stream(file, str(path), warn)
        elif kind in (".jsonl", ".ndjson"):
            yield from _from_lines(file, str(path))
        else:
            yield from _from_text(file.read(), str(path), warn, path, whole=kind == ".json")


def _from_stream(file: BinaryIO, where: str, warn: Warn) -> Iterator[Passage]:
    begin = first_lines(file)
    if begin and _is_json_line(begin[-1].removeprefix(UTF8_BOM).strip()):
        yield from _from_lines(chain(begin, file), where)
    else:
        data = b"".join(begin) + file.read()
        yield from _from_text(data, where, warn, whole=_LIST.match(data.removeprefix(UTF8_BOM)) is not None)


def _is_json_line(line: bytes) -> bool:
    """Whether a first line promises JSON lines; a brace alone opens a document, a quotation mark perhaps a text."""
    if line.startswith(b"{"):
        return line[1:].lstrip().startswith((b'"', b"}"))
    try:
        return line.startswith(b'"') and isinstance(parse_json(line, ""), str)
    except InvalidInputError:
        return False


def _from_lines(lines: Iterable[bytes], where: str) -> Iterator[Passage]:
    for place, value in json_lines(lines, where):
        yield passage_from_json(value, place)


def _from_text(
    data: bytes, where: str, warn: Warn, path: Path | None = None, *, whole: bool = False
) -> Iterator[Passage]:
    """The passages of a JSON list (where it may be one: `whole`), or the whole text as one passage."""
    text, encoding = decode(data, where)
    if encoding != "utf-8":
        warn(f"{where} is not UTF-8; it is read as {encoding}, and if letters look wrong, convert it to UTF-8")
    if not text.strip():
        warn(f"{where} is empty")
        return
    listed = _listed(text, where, warn) if whole else None
    if listed is not None:
        for number, value in enumerate(listed, start=1):
            yield passage_from_json(value, f"{where}, entry {number}")
        return
    metadata = {"title": Path(path.name.removesuffix(".gz")).stem} if path else {}
    if encoding != "utf-8":
        metadata["encoding"] = encoding
    yield Passage(text, id=str(path) if path else None, metadata=metadata)


def _listed(text: str, where: str, warn: Warn) -> list[Any] | None:
    """The elements of a JSON list of passages; None of any other text."""
    try:
        value = parse_json(text, where)
    except InvalidInputError as error:
        warn(f"{error}; it is read as one text")
        return None
    if not isinstance(value, list):
        return None
    are = all(isinstance(v, str) or (isinstance(v, dict) and isinstance(v.get("text"), str)) for v in value)
    return value if are else None
