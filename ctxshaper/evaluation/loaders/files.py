"""Entries of a JSON or JSON-lines file, plain or gzipped, each with where it stands; and checks of their fields."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ctxshaper.errors import InvalidInputError

Entry = Mapping[str, Any]


def read_text(path: Path) -> str:
    """The text of a file, unpacked if it ends in .gz.

    Raises:
        InvalidInputError: it cannot be read as UTF-8 text.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read()
        return path.read_text(encoding="utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be read as UTF-8 text: {error}") from error


def entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """Each entry with where it stands: `FILE, line 3` of JSON lines, `FILE, entry 3` of a JSON list.

    Raises:
        InvalidInputError: no JSON, or an entry that is no object; the message names the line.
    """
    text = read_text(path)
    whole = text.lstrip()[:1] == "[" or path.name.removesuffix(".gz").endswith(".json")
    if whole and (found := _whole(path, text)) is not None:
        for number, entry in enumerate(found, start=1):
            yield f"{path}, entry {number}", _object(entry, f"{path}, entry {number}")
        return
    # Not splitlines: JSON strings may hold U+2028 and its like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InvalidInputError(f"{where}: not JSON: {error}") from error
            yield where, _object(entry, where)


def _whole(path: Path, text: str) -> list[Any] | None:
    """A JSON list, or the one object of a file; None for JSON lines that are called .json, as RGB's are."""
    try:
        value = json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] == "[":
            raise InvalidInputError(f"{path} is not JSON: {error}") from error
        return None
    return value if isinstance(value, list) else [value]


def _object(entry: Any, where: str) -> Entry:
    if not isinstance(entry, dict):
        raise InvalidInputError(f"{where}: an entry must be a JSON object, but got {str(entry)!r:.60}")
    return entry


def text_of(entry: Entry, *names: str) -> str:
    """The text under the first of these names that is there.

    Raises:
        ValueError: none is there, or it is no text.
    """
    for name in names:
        if name in entry:
            if isinstance(entry[name], str) and entry[name].strip():
                return str(entry[name])
            raise ValueError(f"{name!r} must be a text with content, but got {entry[name]!r:.60}")
    raise ValueError(f"no {' or '.join(map(repr, names))}; there are {', '.join(map(repr, entry)) or 'no fields'}")


def list_of(entry: Entry, name: str) -> list[Any]:
    """The list under a name.

    Raises:
        ValueError: it is missing or no list.
    """
    if not isinstance(entry.get(name), list):
        raise ValueError(f"{name!r} must be a list, but got {entry.get(name)!r:.60}")
    return list(entry[name])


def texts_of(value: Any) -> tuple[str, ...]:
    """Texts from a text, a number, or (nested) lists of them; each once, empty ones left out.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return (value.strip(),) if value.strip() else ()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (str(value),)
    if isinstance(value, list):
        return tuple(dict.fromkeys(text for one in value for text in texts_of(one)))
    raise ValueError(f"answers must be a text or a list of texts, but got {value!r:.60}")
