"""Passages' keys in tiers: memory, over an optional store on disk, over the model that reads what neither holds."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.errors import DeadlineError, InvalidInputError
from ctxshaper.reading.head_sets import Slot
from ctxshaper.reading.held_keys import HeldKeys
from ctxshaper.reading.key_memory import KeyMemory
from ctxshaper.reading.keys import PassageKeys, quantise
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.prefill import Prefill, Wanted
from ctxshaper.reading.request_batcher import RequestBatcher
from ctxshaper.reading.store import KeyStore

_KIND = "keys"
# Seconds between two looks at what another process reads, and those after which it is read here all the same: the other
# may have been stopped.
_LOOK, _PATIENCE = 0.01, 60.0


@dataclass(frozen=True, eq=False)
class Taken:
    """The keys of one request's passages, and where they came from.

    Attributes:
        held: the keys, in memory until the request ends.
        slots: the (layer, key head) of the arena's slots.
        hits: passages that were in memory.
        stored: passages that came from the store.
        absent: content keys of those that the model read for this request.
        seconds: that reading them took, with the time that it waited for other requests to read; 0 where none was.
    """

    held: HeldKeys
    slots: Sequence[Slot]
    hits: int
    stored: int
    absent: frozenset[bytes]
    seconds: float

    @property
    def misses(self) -> int:
        """How many passages the model had to read."""
        return len(self.absent)


class KeyShelf:
    """Finds the keys of passages, or has them read. Thread-safe: what concurrent requests lack is read together.

    Args:
        memory: remembers keys, at these slots.
        prefill: reads passages.
        store: keeps keys on disk, or None.
        fingerprint: all that shapes a passage's keys beside its tokens.
    """

    def __init__(self, memory: KeyMemory, prefill: Prefill, store: KeyStore | None, fingerprint: bytes) -> None:
        self.memory, self.slots = memory, tuple(prefill.slots)
        self._prefill, self._store = prefill, store
        self._fingerprint = fingerprint + repr((self.slots, memory.dtype, _KIND)).encode()
        self.marked = prefill.probe is not None
        if prefill.probe is not None:
            # Scores of another probe, and entries without any, are never found.
            self._fingerprint += b"marks" + prefill.probe.fingerprint
        self._lately = _Lately()
        # What was read here and no request was told of, and what another process read.
        self._fresh: weakref.WeakSet[PassageKeys] = weakref.WeakSet()
        self._foreign: weakref.WeakSet[PassageKeys] = weakref.WeakSet()
        self._telling = ForkSafeLock()
        self._batcher = RequestBatcher(self._lately, self._read)

    @contextmanager
    def take(self, wanted: Wanted, lengths: Mapping[bytes, int]) -> Iterator[Taken]:
        """Hold the keys of passages until the block ends.

        Args:
            wanted: tokens by content key.
            lengths: how many each has; sorted, so that the order of passages changes neither tables nor results.

        Raises:
            DeadlineError: the request's time is over.
            ModelError: the model gave keys that are not numbers.
        """
        held = self.memory.hold(lengths)
        try:
            missing = held.missing
            stored = self._stored(missing)
            absent = {key: wanted[key] for key in missing if key not in stored}
            started = time.perf_counter()
            new = self._batcher.read(absent)
            seconds = time.perf_counter() - started if absent else 0.0
            _put(held, {**stored, **new})
            read, late = self._told(new)
            found = len(stored) + late
            yield Taken(held, self.slots, len(lengths) - found - len(read), found, read, seconds)
        finally:
            held.release()

    def _told(self, new: Mapping[bytes, PassageKeys]) -> tuple[frozenset[bytes], int]:
        """Which of the passages count as read for this request, and how many came from the store while it waited.

        What several requests wanted at once was read for one of them; to the others it was in memory.
        """
        with self._telling:
            read = frozenset(key for key, one in new.items() if one in self._fresh)
            for key in read:
                self._fresh.discard(new[key])
            return read, sum(one in self._foreign for one in new.values())

    def _stored(self, missing: Mapping[bytes, int]) -> dict[bytes, PassageKeys]:
        if self._store is None or not missing:
            return {}
        found = {}
        for key, data in self._store.get_many(_KIND, self._fingerprint, list(missing)).items():
            deadline.check()
            try:
                keys = PassageKeys.from_bytes(data)
            except InvalidInputError:
                continue  # of another version: read anew
            fits = keys.keys.shape == (len(self.slots), missing[key], self.memory.dim)
            if fits and (keys.marks is not None) == self.marked:
                found[key] = keys
        return found

    def _read(self, wanted: Wanted) -> dict[bytes, PassageKeys]:
        store, found = self._store, dict[bytes, PassageKeys]()
        if store is None:
            return self._read_here(wanted)
        patience = time.monotonic() + _PATIENCE
        while left := {key: ids for key, ids in wanted.items() if key not in found}:
            deadline.check()
            with store.claimed(_KIND, self._fingerprint, left) as own:
                if time.monotonic() > patience:
                    own = set(left)
                # Since it was looked up, another process may have read it.
                written = self._stored({key: len(left[key]) for key in left if key in own})
                with self._telling:
                    self._foreign.update(written.values())
                found |= written
                found |= self._read_here({key: left[key] for key in left if key in own and key not in written})
            if own:
                patience = time.monotonic() + _PATIENCE
            elif left:
                time.sleep(_LOOK)
        return found

    def _read_here(self, wanted: Wanted) -> dict[bytes, PassageKeys]:
        if not wanted:
            return {}
        with tracing.span("ctxshaper.prefill", passages=len(wanted), tokens_read=sum(map(len, wanted.values()))):
            return self._prefilled(wanted)

    def _prefilled(self, wanted: Wanted) -> dict[bytes, PassageKeys]:
        found: dict[bytes, PassageKeys] = {}
        try:
            for names, lengths, keys, marks in self._prefill.read(wanted):
                parts = _split(names, lengths, self._rounded(keys, marks))
                found |= parts
                with self._telling:
                    self._fresh.update(parts.values())
                if self._store is not None:
                    items = ((key, one.to_bytes()) for key, one in parts.items())
                    self._store.put_many(_KIND, self._fingerprint, items)
        except DeadlineError:
            self._lately.rescue(found)
            raise
        self._lately.add(found)
        return found

    def _rounded(self, keys: torch.Tensor, marks: torch.Tensor | None) -> PassageKeys:
        if self.memory.dtype == torch.int8:
            return PassageKeys(*quantise(keys), marks)
        return PassageKeys(keys.to(torch.bfloat16), None, marks)


class _Lately:
    """Keys that were read a moment ago, while somebody still has them: a request that waited need not read them again.

    What is remembered for longer is the memory's matter: a request holds it before it asks for the rest.
    """

    def __init__(self) -> None:
        self._keys: weakref.WeakValueDictionary[bytes, PassageKeys] = weakref.WeakValueDictionary()
        self._rescued: dict[bytes, PassageKeys] = {}

    def add(self, keys: Mapping[bytes, PassageKeys]) -> None:
        """Find these as long as somebody else has them."""
        self._rescued = {}
        self._keys.update(keys)

    def rescue(self, keys: Mapping[bytes, PassageKeys]) -> None:
        """Keep what a reading gave before its deadline ended it, until the next reading."""
        self._rescued = dict(keys)
        self._keys.update(keys)

    def take(self, keys: Iterable[bytes]) -> dict[bytes, PassageKeys]:
        """See `Memories`."""
        found = ((key, self._keys.get(key)) for key in keys)
        return {key: one for key, one in found if one is not None}

    def hold(self, handles: Iterable[PassageKeys]) -> None:
        """Nothing to do: a tensor lives as long as somebody has it."""

    def release(self, handles: Iterable[PassageKeys]) -> None:
        """Nothing to do, likewise."""


def _put(held: HeldKeys, new: Mapping[bytes, PassageKeys]) -> None:
    if new:
        # In the order in which places were reserved, so that they are written in few pieces.
        names = [name for name in held.missing if name in new]
        device = held.arena.keys.device
        keys = torch.cat([new[name].keys.to(device) for name in names], 1)
        scales = [scales.to(device) for name in names if (scales := new[name].scales) is not None]
        marks = [marks.to(device) for name in names if (marks := new[name].marks) is not None]
        held.put_batch(names, keys, torch.cat(scales, 1) if scales else None, torch.cat(marks) if marks else None)


def _split(names: Sequence[bytes], lengths: Sequence[int], batch: PassageKeys) -> dict[bytes, PassageKeys]:
    none, sizes = (None,) * len(names), list(lengths)
    keys = torch.split(batch.keys, sizes, 1)
    scales = none if batch.scales is None else torch.split(batch.scales, sizes, 1)
    marks = none if batch.marks is None else torch.split(batch.marks, sizes)
    parts = zip(keys, scales, marks, strict=True)
    return {name: PassageKeys(*own) for name, own in zip(names, parts, strict=True)}
