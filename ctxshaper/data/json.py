"""The one reader of JSON: strict, with errors that say where, and linear in the text."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ctxshaper.data.decoding import UTF8_BOM, opened
from ctxshaper.errors import InvalidInputError

# No data set nests deeper. Python's own parser gives up near 1,000, and what walks the value later needs its stack too.
_DEEPEST = 100


def parse_json(text: str | bytes, where: str) -> Any:
    """Parse one JSON value, strictly.

    Stricter than Python's own parser: NaN, infinities, a name that stands twice in an object, and nesting deeper than
    100 are refused. Lone surrogates written as escapes are kept.

    Args:
        text: the JSON; bytes must be UTF-8, with or without a byte order mark.
        where: what errors call it, such as `passages.jsonl, line 3`.

    Raises:
        InvalidInputError: anything else.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"{where}: not UTF-8 (byte 0x{text[error.start]:02x} at {error.start}), and JSON is always UTF-8; "
                "convert it, for example with iconv -f WINDOWS-1252 -t UTF-8"
            ) from error
    try:
        value = json.loads(text, parse_constant=_constant, parse_float=_float, object_pairs_hook=_object)
    except RecursionError as error:
        raise InvalidInputError(f"{where}: nested deeper than {_DEEPEST} levels") from error
    except ValueError as error:
        raise InvalidInputError(f"{where}: not JSON: {error}") from error
    # Only a text with so many brackets can nest so deep: nearly all lines are spared the walk.
    if text.count("[") + text.count("{") > _DEEPEST and _is_deep(value):
        raise InvalidInputError(f"{where}: nested deeper than {_DEEPEST} levels")
    return value


def json_lines(lines: Iterable[bytes], where: str) -> Iterator[tuple[str, Any]]:
    """Each value of JSON lines with where it stands (`FILE, line 3`); blank lines are passed over.

    One line at a time is held in memory.

    Raises:
        InvalidInputError: a line that is no JSON; the message names it.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            place = f"{where}, line {number}"
            yield place, parse_json(line, place)


def json_values(path: Path) -> Iterator[tuple[str, Any]]:
    """Each value of a .json, .jsonl or gzipped file with where it stands.

    Of a file that is one JSON list these are its elements (`FILE, entry 3`), of one that is another JSON value the
    value; anything else is read as JSON lines, whatever the file is called.

    Raises:
        InvalidInputError: the file cannot be read, or it holds no JSON; the message names the line.
    """
    with opened(path) as file:
        begin = first_lines(file)
        is_list = (begin[-1] if begin else b"").removeprefix(UTF8_BOM).lstrip().startswith(b"[")
        if not is_list and not path.name.removesuffix(".gz").endswith(".json"):
            yield from json_lines(chain(begin, file), str(path))
            return
        data = b"".join(begin) + file.read()
    try:
        value = parse_json(data, str(path))
    except InvalidInputError:
        if is_list:
            raise
        # JSON lines that are called .json, as some data sets' are.
        yield from json_lines(io.BytesIO(data), str(path))
        return
    for number, entry in enumerate(value if isinstance(value, list) else [value], start=1):
        yield f"{path}, entry {number}", entry


def first_lines(lines: Iterable[bytes]) -> list[bytes]:
    """The lines up to the first that is not blank, taken from the front of a file."""
    taken = []
    for line in lines:
        taken.append(line)
        if line.strip():
            break
    return taken


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON; write null")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits:.40} is out of range")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the name {name!r:.60} stands twice in one object")
            seen.add(name)
    return made


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_DEEPEST):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True
