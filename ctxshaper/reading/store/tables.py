"""The tables of a store inside one LMDB transaction: find, add, drop, evict, note use.

All lie in LMDB's one unnamed database, told apart by the first byte of their keys:
`b` blocks, `a` what is known of them, `i` index by content hash, `n` names, `o` open blocks, `s` state.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ctxshaper.reading.store.records import (
    PLACE,
    RECORD,
    About,
    Place,
    State,
    block_is_full,
    charge,
    hashes_in,
    pack_about,
    pack_record,
    unpack_about,
    unpack_state,
    unpack_value,
)

if TYPE_CHECKING:
    import lmdb

_STATE_KEY = b"s"


class DamageError(Exception):
    """Something in the store's file is not what this code writes."""


class Tables:
    """A store's tables as one transaction sees them.

    Args:
        txn: with `buffers=True`; what the tables hand out is copied, so that nothing outlives the transaction.
    """

    def __init__(self, txn: lmdb.Transaction[memoryview]) -> None:
        self._txn = txn
        self._blocks: dict[int, memoryview | None] = {}

    def state(self) -> State:
        """What holds for the whole store.

        Raises:
            DamageError: it is not what was written.
        """
        packed = self._txn.get(_STATE_KEY)
        if packed is None:
            return State()
        found = unpack_state(packed)
        if found is None:
            raise DamageError("the store's own description is damaged")
        return found[1]

    def format(self) -> int | None:
        """The version of the layout; None for a new store."""
        packed = self._txn.get(_STATE_KEY)
        if packed is None:
            return None
        found = unpack_state(packed)
        if found is None:
            raise DamageError("the store's own description is damaged")
        return found[0]

    def keep_state(self, state: State) -> None:
        """Write what holds for the whole store."""
        self._txn.put(_STATE_KEY, state.pack())

    def place(self, content: bytes) -> Place | None:
        """Where the index says that a record lies."""
        packed = self._txn.get(b"i" + content)
        if packed is None:
            return None
        # A damaged entry leads nowhere and is dropped like a damaged record.
        return Place(*PLACE.unpack(packed)) if len(packed) == PLACE.size else Place(0, 0, 0)

    def value(self, content: bytes, place: Place) -> bytes | None:
        """The value at a place; None where it is damaged or gone."""
        if place.block not in self._blocks:
            self._blocks[place.block] = self._txn.get(_key(b"b", place.block))
        block = self._blocks[place.block]
        return None if block is None else unpack_value(block, place, content)

    def add(self, namespace: bytes, items: Iterable[tuple[bytes, bytes]], state: State) -> None:
        """Append records to the namespace's open block, and close blocks as they fill."""
        number, data, count = self._open_block(namespace, state)
        for content, value in items:
            data += pack_record(content, value)
            self._txn.put(b"i" + content, PLACE.pack(number, len(data), len(value)))
            data += value
            count += 1
            if block_is_full(len(data)):
                self._keep_block(number, data, count, namespace, state)
                number, data, count = _next_block(state), bytearray(), 0
        if data:
            self._keep_block(number, data, count, namespace, state)
            self._txn.put(b"o" + namespace, _number(number))
        else:
            self._txn.delete(b"o" + namespace)

    def _open_block(self, namespace: bytes, state: State) -> tuple[int, bytearray, int]:
        packed = self._txn.get(b"o" + namespace)
        if packed is not None:
            number = int.from_bytes(packed, "big")
            block = self._txn.get(_key(b"b", number))
            about = self.about(number)
            if block is not None and about is not None and about.size == len(block):
                state.live -= charge(about.size, about.records)
                return number, bytearray(block), about.records
        return _next_block(state), bytearray(), 0

    def _keep_block(self, number: int, data: bytearray, count: int, namespace: bytes, state: State) -> None:
        self._txn.put(_key(b"b", number), data)
        about = About(time.time_ns(), len(data), count, namespace)
        self._txn.put(_key(b"a", number), pack_about(about))
        state.live += charge(len(data), count)
        self._blocks.pop(number, None)

    def drop(self, content: bytes, place: Place | None = None) -> bool:
        """Take a record out of the index; only if it still lies at that place, where one is given."""
        if place is not None and self.place(content) != place:
            return False
        return self._txn.delete(b"i" + content)

    def about(self, number: int) -> About | None:
        """What is known of a block."""
        packed = self._txn.get(_key(b"a", number))
        return None if packed is None else unpack_about(packed)

    def blocks(self) -> Iterator[tuple[int, About]]:
        """All blocks by number, without reading them."""
        for key, packed in self._rows(b"a"):
            about = unpack_about(packed)
            if about is not None:
                yield int.from_bytes(key[1:], "big"), about

    def contents(self, number: int) -> list[bytes]:
        """The hashes of a block's records, also of those that were replaced or dropped since."""
        block = self._txn.get(_key(b"b", number))
        return [] if block is None else list(hashes_in(block))

    def index(self) -> Iterator[tuple[bytes, Place]]:
        """All records by content hash."""
        for key, packed in self._rows(b"i"):
            yield bytes(key[1:]), Place(*PLACE.unpack(packed)) if len(packed) == PLACE.size else Place(0, 0, 0)

    def note_use(self, numbers: Iterable[int], now: int) -> None:
        """Say that blocks were used."""
        for number in numbers:
            about = self.about(number)
            if about is not None and about.used < now:
                self._txn.put(_key(b"a", number), pack_about(about._replace(used=now)))

    def evict(self, target: int, state: State) -> int:
        """Drop the blocks used least recently until all take at most so many bytes; how many were dropped."""
        oldest = sorted((about.used, number, about.size, about.records) for number, about in self.blocks())
        dropped = 0
        for _, number, size, records in oldest:
            if state.live <= target:
                break
            self._drop_block(number)
            state.live -= charge(size, records)
            dropped += 1
        if dropped == len(oldest):
            # Nothing is left: what the sum still says is what a damaged row did not.
            state.live = 0
        return dropped

    def _drop_block(self, number: int) -> None:
        for content in self.contents(number):
            place = self.place(content)
            if place is not None and place.block == number:
                self._txn.delete(b"i" + content)
        self._txn.delete(_key(b"b", number))
        self._txn.delete(_key(b"a", number))
        self._blocks.pop(number, None)

    def name(self, namespace: bytes, kind: str, fingerprint: bytes) -> None:
        """Remember what a namespace stands for."""
        named = kind.encode() + b"\0" + fingerprint
        if bytes(self._txn.get(b"n" + namespace) or b"") != named:
            self._txn.put(b"n" + namespace, named)

    def named(self, namespace: bytes) -> tuple[str, bytes]:
        """What a namespace stands for."""
        packed = self._txn.get(b"n" + namespace)
        kind, _, fingerprint = bytes(packed or b"?\0").partition(b"\0")
        return kind.decode("utf-8", "replace"), fingerprint

    def _rows(self, table: bytes) -> Iterator[tuple[memoryview, memoryview]]:
        with self._txn.cursor() as cursor:
            if not cursor.set_range(table):
                return
            for key, packed in cursor.iternext():
                if key[:1] != table:
                    return
                yield key, packed


def missing(tables: Tables, items: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those of the records that the tables do not hold as they are."""
    found = []
    for content, value in items:
        place = tables.place(content)
        if place is None or tables.value(content, place) != value:
            found.append((content, value))
    return found


def record_bytes(value: bytes) -> int:
    """What a value takes of a block."""
    return RECORD.size + len(value)


def _next_block(state: State) -> int:
    number = state.next_block
    state.next_block += 1
    return number


def _number(number: int) -> bytes:
    # Big-endian: LMDB sorts by bytes, and new blocks then go to the end, where its pages fill up.
    return number.to_bytes(8, "big")


def _key(table: bytes, number: int) -> bytes:
    return table + _number(number)
