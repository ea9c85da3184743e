"""Tables: passages and requests from the batches of columns that Ray Data, pandas and Spark hand out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ctxshaper.data import Passage
from ctxshaper.data.files import passage_from_json
from ctxshaper.errors import InvalidInputError


class Columns(Protocol):
    """A batch: names of columns, each with as many values; a dict of arrays, or a DataFrame of pandas."""

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, name: str, /) -> Any: ...


def passages_of(batch: Columns) -> list[Passage]:
    """The passages of a batch's rows, which have the fields of JSON lines: `text`, and perhaps `id`, `title`, others.

    Raises:
        InvalidInputError: a row that is no passage; says which.
    """
    return [passage_from_json(row, f"row {number} of a batch") for number, row in enumerate(rows_of(batch))]


def requests_of(batch: Columns) -> list[tuple[str, list[Passage]]]:
    """The requests of a batch's rows: `query`, and `passages`, a list of texts or of objects with `text`.

    Raises:
        InvalidInputError: no such column, or a row that is no request; says which.
    """
    requests = []
    for number, row in enumerate(rows_of(batch)):
        query, passages = row.get("query"), row.get("passages")
        if not isinstance(query, str) or not isinstance(passages, list):
            raise InvalidInputError(
                f"row {number} of a batch is no request: it needs query (a text) and passages (a list), but has "
                f"{', '.join(f'{name} ({type(value).__name__})' for name, value in row.items()) or 'nothing'}"
            )
        where = f"row {number} of a batch, passage "
        requests.append((query, [passage_from_json(one, f"{where}{rank}", rank) for rank, one in enumerate(passages)]))
    return requests


def rows_of(batch: Columns) -> list[dict[str, Any]]:
    """The rows of a batch in plain types; what is empty (None, or NaN as pandas writes it) is left out.

    Raises:
        InvalidInputError: columns of different lengths.
    """
    columns = {str(name): list(batch[name]) for name in batch}
    if len({len(values) for values in columns.values()}) > 1:
        raise InvalidInputError(
            f"the columns of a batch differ in length: { {name: len(values) for name, values in columns.items()} }"
        )
    return [_plain(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # arrays and numbers of numpy
        value = value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items() if not _empty(one)}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(one) for one in value]
    return value


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
