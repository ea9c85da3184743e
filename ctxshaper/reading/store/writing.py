"""Writing to a store: put what is missing, evict what was used least recently, note what was used."""

from __future__ import annotations

import time

import lmdb

from ctxshaper.reading.store.environment import Environment
from ctxshaper.reading.store.opening import UnavailableError
from ctxshaper.reading.store.records import State, charge
from ctxshaper.reading.store.tables import Tables, missing, record_bytes

_SLACK = 256 * 2**20
# Pages that one transaction frees can be used by the one after the next.
_LAG = 3


def limit(bound: int) -> int:
    """The bytes of records that a bound on the file leaves room for: LMDB writes changed pages beside the old ones."""
    return bound - min(bound // 4, _SLACK)


def put(
    shared: Environment, namespace: bytes, name: tuple[str, bytes], batch: list[tuple[bytes, bytes]]
) -> None:
    """Write those of the records that are not there, in one transaction.

    Raises:
        UnavailableError: the file cannot be written.
        lmdb.MapFullError: there is no room, also after eviction.
    """
    size = charge(sum(record_bytes(value) for _, value in batch), len(batch))

    def write(tables: Tables) -> None:
        state = _state(tables, shared)
        _note(tables, shared)
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


def _written(shared: Environment, write: object) -> None:
    used = shared.used
    shared.used = set()
    try:
        shared.run(write, write=True)  # type: ignore[arg-type]
    except BaseException:
        shared.used |= used
        raise


def _state(tables: Tables, shared: Environment) -> State:
    state = tables.state()
    if shared.max_bytes is not None:
        state.max_bytes = shared.max_bytes
    return state


def _note(tables: Tables, shared: Environment) -> None:
    tables.note_use(shared.used, time.time_ns())


def _evict(shared: Environment, target: int) -> int:
    def drop(tables: Tables) -> int:
        state = _state(tables, shared)
        tables.note_use(shared.used, time.time_ns())
        dropped = tables.evict(target, state)
        tables.keep_state(state)
        return dropped

    try:
        dropped = shared.run(drop, write=True)
    except lmdb.MapFullError:
        shared.make_room(max(2**20, shared.bound // 16))
        dropped = shared.run(drop, write=True)
    for _ in range(_LAG):
        shared.run(lambda tables: tables.keep_state(tables.state()), write=True)
    return dropped


def flush(shared: Environment) -> None:
    """Note on disk what this process used; nothing happens where the store cannot be written."""
    if not shared.used or not shared.writable:
        return
    try:
        _written(shared, lambda tables: _note(tables, shared))
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
