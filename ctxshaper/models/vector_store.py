"""Sentence embeddings on disk: a text that any process embedded is not embedded again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_KIND = "embedding"

Vectors = NDArray[np.float32]
Rounded = NDArray[np.int8]


class Records(Protocol):
    """What keeps bytes by content; `KeyStore` does."""

    def get_many(self, kind: str, fingerprint: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are there, whole and unchanged."""
        ...

    def put_many(
        self, kind: str, fingerprint: bytes, items: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]
    ) -> int:
        """Keep values under their keys; how many are now there."""
        ...


class VectorStore:
    """Embeddings of texts in 8 bits, in a store that other processes share.

    Args:
        records: keeps them.
        fingerprint: all that shapes a vector beside its text: the model's files, and the type that it computes in.
        size: numbers of a vector; what has another length is no vector of this model.
    """

    def __init__(self, records: Records, fingerprint: bytes, size: int) -> None:
        self._records, self._fingerprint, self._size = records, fingerprint, size

    def get_many(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """The vectors of those texts that are there."""
        keys = {text: _key(text) for text in texts}
        found = self._records.get_many(_KIND, self._fingerprint, list(keys.values()))
        sound = [text for text, key in keys.items() if len(found.get(key, b"")) == self._size and any(found[key])]
        if not sound:
            return {}
        rounded = np.frombuffer(b"".join(found[keys[text]] for text in sound), dtype=np.int8)
        return dict(zip(sound, restored(rounded.reshape(len(sound), self._size)), strict=True))

    def put_many(self, texts: Sequence[str], vectors: Rounded) -> None:
        """Keep the vectors of texts: [len(texts), size], as `rounded` gives them."""
        rows = zip(texts, vectors, strict=True)
        self._records.put_many(_KIND, self._fingerprint, [(_key(text), row.tobytes()) for text, row in rows])


def rounded(vectors: Vectors) -> Rounded:
    """[n, size] vectors in 8 bits. Their lengths are lost; `restored` gives all of them length 1."""
    largest = np.maximum(np.abs(vectors).max(1, keepdims=True, initial=0), 1e-30)
    result: Rounded = np.rint(vectors * (127 / largest)).astype(np.int8)
    return result


def restored(vectors: Rounded) -> Vectors:
    """[n, size] vectors of length 1 from `rounded` ones."""
    wide = vectors.astype(np.float32)
    result: Vectors = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-30)
    return result


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
