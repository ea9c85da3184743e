"""Reading fields of what an API sent, as a dict or as an object of its SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ctxshaper.errors import InvalidInputError

_T = TypeVar("_T")


def field(data: Any, name: str, kind: type[_T], what: str) -> _T:
    """A field of exactly this type.

    Args:
        data: a mapping, or an object with attributes.
        name: of the field.
        kind: its type; a bool is no int here.
        what: what an error calls the data.

    Raises:
        InvalidInputError: there is no such field, or it is of another type.
    """
    value = data.get(name) if isinstance(data, Mapping) else getattr(data, name, None)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidInputError(f"{what} needs {name!r} of type {kind.__name__}, but got {value!r:.80}")
    return value


def named(*candidates: Any) -> str:
    """The first of some values that is a text with content; empty if none is."""
    return next((value.strip() for value in candidates if isinstance(value, str) and value.strip()), "")
