"""Looking at a whole store: its sizes, and whether every record is what was written."""

from __future__ import annotations

from collections import defaultdict

import lmdb

from ctxshaper.reading.store.environment import Environment
from ctxshaper.reading.store.files import set_aside
from ctxshaper.reading.store.opening import UnavailableError, structure
from ctxshaper.reading.store.records import About, Place
from ctxshaper.reading.store.report import NamespaceStat, StoreCheck, StoreStat
from ctxshaper.reading.store.tables import Tables
from ctxshaper.reading.store.writing import drop


def stat(shared: Environment) -> StoreStat:
    """The sizes of a store.

    Raises:
        UnavailableError: it cannot be read.
    """

    def read(tables: Tables) -> list[NamespaceStat]:
        blocks: dict[bytes, list[About]] = defaultdict(list)
        for _, about in tables.blocks():
            blocks[about.namespace].append(about)
        return [_summed(tables, namespace, abouts) for namespace, abouts in blocks.items()]

    spaces = sorted(shared.run(read), key=lambda space: -space.size)
    return StoreStat(shared.folder, shared.bound, shared.file_bytes(), tuple(spaces), tuple(set_aside(shared.folder)))


def _summed(tables: Tables, namespace: bytes, abouts: list[About]) -> NamespaceStat:
    kind, fingerprint = tables.named(namespace)
    return NamespaceStat(
        kind,
        fingerprint,
        entries=sum(about.records for about in abouts),
        size=sum(about.size for about in abouts),
        last_used=max(about.used for about in abouts) / 1e9,
    )


def verify(shared: Environment, *, repair: bool) -> StoreCheck:
    """Check every page and record; damaged records are dropped, and a damaged file set aside, if `repair` says so."""
    damaged: dict[bytes, Place] = {}
    count = 0

    def read(tables: Tables) -> list[str]:
        nonlocal count
        # Inside the transaction, which keeps writers from using the pages of this snapshot again.
        problems = structure(shared.folder)
        if problems:
            return problems
        count = 0
        damaged.clear()
        for content, place in tables.index():
            count += 1
            if tables.value(content, place) is None:
                damaged[content] = place
        return []

    problems: list[str] = []
    try:
        problems = shared.run(read)
        if repair and problems:
            shared.reopen(suspect=True)
        if repair and damaged:
            drop(shared, damaged)
    except (UnavailableError, lmdb.Error) as error:
        problems = [*problems, str(error)]
        return StoreCheck(0, 0, tuple(problems), repaired=False)
    return StoreCheck(0 if problems else count, len(damaged), tuple(problems), repaired=repair)
