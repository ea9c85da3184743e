"""Token ids with offsets on disk: a passage that any process tokenised is not tokenised again."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.reading.store import KeyStore

_KIND = "tokens"
# Version, bytes of an id, bytes of a distance; tokens of the heading and of the text.
_HEADER = struct.Struct("<BBBII")
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Encoded:
    """A passage's tokens.

    Attributes:
        heading: [h] tokens of the heading.
        ids: [n] tokens of the source.
        offsets: [n, 2] characters of the source, half-open.
    """

    heading: NDArray[np.int32]
    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def to_bytes(self) -> bytes:
        """As bytes: some six a token where the vocabulary has fewer than 65,536."""
        ids = np.concatenate((self.heading, self.ids)).astype("<u4")
        # Distances from the end of the token before, and lengths: small numbers, unless a text has long gaps.
        ends = np.concatenate(([0], self.offsets[:-1, 1])) if len(self.offsets) else self.offsets[:, 0]
        apart = np.concatenate((self.offsets[:, 0] - ends, self.offsets[:, 1] - self.offsets[:, 0])).astype("<i4")
        wide_ids = bool(len(ids)) and int(ids.max()) > 0xFFFF
        wide_apart = bool(len(apart)) and int(np.abs(apart).max()) > 0x7FFF
        header = _HEADER.pack(_VERSION, 4 if wide_ids else 2, 4 if wide_apart else 2, len(self.heading), len(self.ids))
        return header + ids.astype("<u4" if wide_ids else "<u2").tobytes() + _packed(apart, wide_apart)

    @classmethod
    def from_bytes(cls, data: bytes, characters: int) -> Encoded | None:
        """What `to_bytes` wrote of a source of so many characters; None for anything else."""
        if len(data) < _HEADER.size:
            return None
        version, of_id, of_distance, headings, tokens = _HEADER.unpack_from(data)
        split = _HEADER.size + of_id * (headings + tokens)
        sound = version == _VERSION and of_id in (2, 4) and of_distance in (2, 4)
        if not sound or len(data) != split + 2 * of_distance * tokens:
            return None
        ids = np.frombuffer(data[_HEADER.size : split], dtype=f"<u{of_id}").astype(np.int32)
        apart, lengths = np.frombuffer(data[split:], dtype=f"<i{of_distance}").astype(np.int64).reshape(2, -1)
        # start[i] = end[i - 1] + apart[i], end[i] = start[i] + lengths[i].
        ends = np.cumsum(apart + lengths)
        offsets = np.stack((ends - lengths, ends), 1)
        if tokens and not (offsets.min() >= 0 and offsets.max() <= characters and lengths.min() >= 0):
            return None
        return cls(ids[:headings], ids[headings:], offsets)


class TokenStore:
    """Tokens of passages by their text, in a store that other processes share.

    Args:
        store: keeps them.
        fingerprint: all that shapes tokens beside the text: the tokenizer, and how much of a title counts.
    """

    def __init__(self, store: KeyStore, fingerprint: bytes) -> None:
        self._store, self._fingerprint = store, fingerprint

    def get_many(self, passages: Sequence[Passage]) -> list[Encoded | None]:
        """The tokens of each passage, or None."""
        keys = [_key(passage) for passage in passages]
        found = self._store.get_many(_KIND, self._fingerprint, keys)
        return [
            Encoded.from_bytes(found[key], len(passage.source)) if key in found else None
            for key, passage in zip(keys, passages, strict=True)
        ]

    def put_many(self, passages: Sequence[Passage], encoded: Sequence[Encoded]) -> None:
        """Keep the tokens of passages."""
        items = [(_key(passage), one.to_bytes()) for passage, one in zip(passages, encoded, strict=True)]
        self._store.put_many(_KIND, self._fingerprint, items)


def _packed(numbers: NDArray[np.int32], wide: bool) -> bytes:
    return numbers.astype("<i4" if wide else "<i2").tobytes()


def _key(passage: Passage) -> bytes:
    digest = hashlib.blake2b((passage.title or "").encode("utf-8", "surrogatepass"), digest_size=16)
    digest.update(b"\0")
    digest.update(passage.source.encode("utf-8", "surrogatepass"))
    return digest.digest()
