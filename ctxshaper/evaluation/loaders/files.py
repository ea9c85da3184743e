"""Entries of a JSON or JSON-lines file, plain or gzipped, each with where it stands; and checks of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ctxshaper.data.decoding import decode, opened
from ctxshaper.data.json import json_values
from ctxshaper.errors import InvalidInputError

Entry = Mapping[str, Any]


def read_text(path: Path) -> str:
    """The text of a file, unpacked if it ends in .gz.

    Raises:
        InvalidInputError: it cannot be read as text.
    """
    with opened(path) as file:
        return decode(file.read(), str(path))[0]


def entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """Each entry with where it stands: `FILE, line 3` of JSON lines, `FILE, entry 3` of a JSON list.

    Raises:
        InvalidInputError: no JSON, or an entry that is no object; the message names the line.
    """
    for where, entry in json_values(path):
        if not isinstance(entry, dict):
            raise InvalidInputError(f"{where}: an entry must be a JSON object, but got {str(entry)!r:.60}")
        yield where, entry


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
