"""Writing to a store: put what is missing, evict what was used least recently, note what was used."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

import lmdb

from ctxshaper.reading.store.environment import Environment
from ctxshaper.reading.store.opening import UnavailableError
from ctxshaper.reading.store.records import Place, State, charge
from ctxshaper.reading.store.tables import Tables, missing, record_bytes

T = TypeVar("T")

_SLACK = 256 * 2**20
# Of what a transaction writes: long enough to be quick, short enough for others to get their turn.
_BATCH = 8 * 2**20
# Pages that one transaction frees can be used by the one after the next.
_LAG = 3


def limit(bound: int) -> int:
    """The bytes of records that a bound on the file leaves room for: LMDB writes changed pages beside the old ones."""
    return bound - min(bound // 4, _SLACK)


def batches(records: Iterable[tuple[bytes, bytes]], bound: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """Records in pieces for one transaction each, in a store of that bound."""
    most, size = min(_BATCH, bound // 16), 0
    batch: list[tuple[bytes, bytes]] = []
    for record in records:
        if batch and size + len(record[1]) > most:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record[1])
    if batch:
        yield batch


def put(shared: Environment, namespace: bytes, name: tuple[str, bytes], batch: list[tuple[bytes, bytes]]) -> None:
    """Write those of the records that are not there, in one transaction.

    Raises:
        UnavailableError: the file cannot be written.
        lmdb.MapFullError: there is no room, also after eviction.
    """
    size = charge(sum(record_bytes(value) for _, value in batch), len(batch))

    def write(tables: Tables) -> None:
        state = _state(tables, shared)
        fresh = missing(tables, batch)
        if fresh:
            if state.live + size > limit(shared.bound):
                # A tenth more than is needed, so that not every write has to evict.
                tables.evict(limit(shared.bound) - size - shared.bound // 10, state)
            tables.name(namespace, *name)
            tables.add(namespace, fresh, state)
        tables.keep_state(state)

    try:
        _written(shared, write)
    except lmdb.MapFullError:
        # Long reads hold old pages, or the free ones lie scattered.
        _evict(shared, limit(shared.bound) // 2)
        _written(shared, write)


def _written(shared: Environment, work: Callable[[Tables], T]) -> T:
    """Do the work in one write transaction, and note first what was used since the last."""
    used, shared.used = shared.used, set()

    def noted(tables: Tables) -> T:
        tables.note_use(used, time.time_ns())
        return work(tables)

    try:
        return shared.run(noted, write=True)
    except BaseException:
        shared.used |= used
        raise


def _state(tables: Tables, shared: Environment) -> State:
    state = tables.state()
    if shared.max_bytes is not None:
        state.max_bytes = shared.max_bytes
    return state


def _evict(shared: Environment, target: int) -> int:
    def work(tables: Tables) -> int:
        state = _state(tables, shared)
        dropped = tables.evict(target, state)
        tables.keep_state(state)
        return dropped

    try:
        dropped = _written(shared, work)
    except lmdb.MapFullError:
        shared.make_room(max(2**20, shared.bound // 16))
        dropped = _written(shared, work)
    for _ in range(_LAG):
        shared.run(lambda tables: tables.keep_state(tables.state()), write=True)
    return dropped


def drop(shared: Environment, damaged: Mapping[bytes, Place]) -> None:
    """Take damaged records out of the index, where no other process has written them anew meanwhile.

    Raises:
        UnavailableError: the file cannot be written.
    """

    def work(tables: Tables) -> None:
        for content, place in damaged.items():
            tables.drop(content, place)

    _written(shared, work)


def flush(shared: Environment) -> None:
    """Note on disk what this process used; nothing happens where the store cannot be written."""
    if not shared.used or not shared.writable:
        return
    try:
        _written(shared, lambda _: None)
    except (UnavailableError, lmdb.Error):
        # It only blurs the order of eviction.
        return


def collect(shared: Environment, max_bytes: int | None) -> int:
    """Evict down to the bound and compact; how many bytes the file became smaller.

    Raises:
        UnavailableError: the file cannot be written.
    """
    before = shared.file_bytes()
    shared.run(lambda _: None)
    bound = max_bytes or shared.bound
    if shared.run(lambda tables: tables.state().live) > limit(bound):
        _evict(shared, limit(bound))
    shared.compact()
    return max(0, before - shared.file_bytes())
