"""How a store lays out its bytes: records packed into blocks, and the small tables that find them.

A value of 17 KB (the keys of 130 tokens) put into LMDB alone takes five pages of 4,096 bytes, a fifth more than it is.
So records are packed into blocks, and a block is closed where its last page is nearly full.

    block   = record*                              record = hash (16) | length (4) | CRC-32 (4) | value
    place   = block (8) | offset (4) | length (4)  of a value inside its block
    about   = last used, ns (8) | bytes (4) | records (4) | namespace (8)      of a block
    state   = format (4) | bound (8) | next block (8) | bytes of blocks (8) | CRC-32 (4)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

Buffer = bytes | bytearray | memoryview

FILE = "store.mdb"
FORMAT = 1
PAGE = 4096
# A block is a run of pages behind one header of 16 bytes.
_PAGE_HEADER = 16
# Blocks from here on may be closed; larger ones save little, and what is used is noted per block.
_BLOCK_BYTES = 64 * 1024
_BLOCK_MOST = 256 * 1024
# The part of a closed block that its last page may leave empty.
_WASTE = 0.015
# An entry of the index with its share of a page that is about two thirds full.
_INDEX_BYTES = 64

RECORD = struct.Struct("<16sII")
PLACE = struct.Struct("<QII")
_ABOUT = struct.Struct("<QII8s")
_STATE = struct.Struct("<IQQQ")
_CRC = struct.Struct("<I")


class Place(NamedTuple):
    """Where a value lies: its block, and its first byte and length inside."""

    block: int
    offset: int
    length: int


class About(NamedTuple):
    """What is known of a block without reading it; `used` is in nanoseconds since 1970."""

    used: int
    size: int
    records: int
    namespace: bytes


@dataclass
class State:
    """What holds for the whole store: the bound asked for (0 for none), the next block's number, the bytes of all."""

    max_bytes: int = 0
    next_block: int = 1
    live: int = 0

    def pack(self) -> bytes:
        """The state as bytes, with the format's version and a checksum."""
        # A damaged row of a block may have been counted as another size than it is taken off as.
        packed = _STATE.pack(FORMAT, self.max_bytes, self.next_block, max(0, self.live))
        return packed + _CRC.pack(zlib.crc32(packed))


def unpack_state(packed: Buffer) -> tuple[int, State] | None:
    """The format's version and the state; None where the bytes are damaged."""
    if len(packed) != _STATE.size + _CRC.size:
        return None
    if zlib.crc32(packed[: _STATE.size]) != _CRC.unpack_from(packed, _STATE.size)[0]:
        return None
    version, max_bytes, next_block, live = _STATE.unpack_from(packed)
    return version, State(max_bytes, next_block, live)


def namespace_of(kind: str, fingerprint: bytes) -> bytes:
    """Eight bytes for a kind of record under a fingerprint."""
    return blake2b(_joined(kind.encode(), fingerprint), digest_size=8).digest()


def content_hash(kind: str, fingerprint: bytes, key: bytes) -> bytes:
    """The sixteen bytes that a record is found by."""
    return blake2b(_joined(kind.encode(), fingerprint, key), digest_size=16).digest()


def _joined(*parts: bytes) -> bytes:
    # Lengths first, so that no two lists of parts join to the same bytes.
    return b"".join(len(part).to_bytes(4, "little") + part for part in parts)


def pack_record(content: bytes, value: Buffer) -> bytes:
    """A record's header; the value follows it."""
    return RECORD.pack(content, len(value), _checksum(content, value))


def unpack_value(block: Buffer, place: Place, content: bytes) -> bytes | None:
    """The value at a place of a block; None unless it is whole, unchanged, and the one asked for."""
    start = place.offset - RECORD.size
    end = place.offset + place.length
    if start < 0 or end > len(block):
        return None
    named, length, checksum = RECORD.unpack_from(block, start)
    if named != content or length != place.length:
        return None
    value = bytes(block[place.offset : end])
    return value if _checksum(content, value) == checksum else None


def hashes_in(block: Buffer) -> Iterator[bytes]:
    """The hashes of a block's records; ends early where a header is damaged."""
    at = 0
    while at + RECORD.size <= len(block):
        content, length, _ = RECORD.unpack_from(block, at)
        yield content
        at += RECORD.size + length


def _checksum(content: bytes, value: Buffer) -> int:
    # The hash belongs to it: an intact value in the wrong place is wrong too.
    return zlib.crc32(value, zlib.crc32(content))


def pack_about(about: About) -> bytes:
    """What is known of a block, as bytes."""
    return _ABOUT.pack(*about)


def unpack_about(packed: Buffer) -> About | None:
    """What is known of a block; None where the bytes have another length."""
    return About(*_ABOUT.unpack(packed)) if len(packed) == _ABOUT.size else None


def block_is_full(size: int) -> bool:
    """Whether a block of so many bytes should be closed: large enough, and its last page nearly full."""
    return size >= _BLOCK_MOST or (size >= _BLOCK_BYTES and _on_disk(size) - size <= _WASTE * size)


def charge(size: int, records: int) -> int:
    """The bytes that a block takes of the file, with its part of the index."""
    return _on_disk(size) + records * _INDEX_BYTES


def _on_disk(size: int) -> int:
    return -(-(size + _PAGE_HEADER) // PAGE) * PAGE
