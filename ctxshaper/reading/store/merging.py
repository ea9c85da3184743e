"""Stores that were written apart become one: records are copied under their hashes, and nothing is read again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import lmdb

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.store.environment import Environment
from ctxshaper.reading.store.opening import UnavailableError
from ctxshaper.reading.store.tables import Tables
from ctxshaper.reading.store.writing import batches, limit, put


def merge(into: Environment, source: Environment) -> int:
    """Copy every sound record of a store that the other lacks; how many it was asked to hold.

    Raises:
        InvalidInputError: the bound leaves no room for all, or one of the two cannot be read or written.
    """
    try:
        into.run(lambda _: None)
        blocks = source.run(_blocks)
        _refuse_overflow(into, source)
        copied = 0
        for namespace in sorted({namespace for _, namespace in blocks}):
            name = source.run(partial(_named, namespace))
            for batch in batches(_records_in(source, namespace, blocks), into.bound):
                put(into, namespace, name, batch)
                copied += len(batch)
        return copied
    except (UnavailableError, lmdb.Error) as error:
        raise InvalidInputError(
            f"the store in {source.folder} could not be merged into the one in {into.folder}: {error}; what was "
            "copied so far is there, and merging again goes on from it"
        ) from error


def _refuse_overflow(into: Environment, source: Environment) -> None:
    """More than fits would push out what is there, silently."""
    held, more = (shared.run(lambda tables: tables.state().live) for shared in (into, source))
    if held + more > limit(into.bound):
        raise InvalidInputError(
            f"{more:,} bytes of records from {source.folder} do not fit beside {held:,} in {into.folder}, whose bound "
            f"of {into.bound:,} leaves room for {limit(into.bound):,}: raise it, as in "
            f"KeyStore(path, max_bytes={2 * (held + more) + 2**20})"
        )


def _records_in(
    source: Environment, namespace: bytes, blocks: list[tuple[int, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    for number, of in blocks:
        if of == namespace:
            yield from source.run(partial(_records, number))


def _blocks(tables: Tables) -> list[tuple[int, bytes]]:
    return [(number, about.namespace) for number, about in tables.blocks()]


def _named(namespace: bytes, tables: Tables) -> tuple[str, bytes]:
    return tables.named(namespace)


def _records(number: int, tables: Tables) -> list[tuple[bytes, bytes]]:
    """A block's records that the index still leads to; damaged ones are left behind."""
    places = {content: tables.place(content) for content in tables.contents(number)}
    found = ((c, tables.value(c, place)) for c, place in places.items() if place is not None and place.block == number)
    return [(content, value) for content, value in found if value is not None]
