"""Plain data: a read-only mapping that can be copied and sent, and values in what JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ctxshaper.errors import InvalidInputError


class Frozen(Mapping[str, Any]):
    """A mapping from text that cannot be changed; it pickles, copies and compares like a dict.

    (`types.MappingProxyType`, which is read-only too, can neither be pickled nor deep-copied.)

    Args:
        items: copied; nested values are not.
        what: what an error calls it.

    Raises:
        InvalidInputError: no mapping, or a key that is not text: JSON would make `1` and `"1"` the same.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, Any], what: str = "a mapping") -> None:
        if not isinstance(items, Mapping):
            raise InvalidInputError(f"{what} must be a mapping, but got {type(items).__name__}")
        for key in items:
            if not isinstance(key, str):
                raise InvalidInputError(f"the keys of {what} must be str, but got {key!r:.80}: pass str(key)")
        self._items = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> tuple[Any, ...]:
        return Frozen, (self._items,)


def shortened(text: str, most: int = 60) -> str:
    """A text as Python writes it, cut where it is longer than `most` characters: for reprs."""
    return repr(text if len(text) <= most else f"{text[: most - 1]}…")


# Values nested deeper than this become a note of it: no document needs it, and the reader of JSON refuses 100 levels.
_DEEPEST = 80


def json_safe(value: Any, depth: int = 0) -> Any:
    """The same value in what JSON can hold: NaN and infinity become null, unknown objects their text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if depth >= _DEEPEST:
        return f"<{type(value).__name__} nested deeper than {_DEEPEST}>"
    if isinstance(value, Mapping):
        return {str(k): json_safe(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_safe(v, depth + 1) for v in value]
    return str(value)
