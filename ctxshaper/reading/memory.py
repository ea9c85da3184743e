"""What remains of a passage after one reading, and the bounded cache that remembers it."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class PassageMemory:
    """One passage (or one window of a long one) as a reader's early layers remember it.

    Attributes:
        key: what identifies it: content, model, layers, prefix and type.
        keys: [L, KV, n, D] after rotary embedding.
        values: [L - 1, KV, n, D]; the last layer read needs no values.
    """

    key: bytes
    keys: torch.Tensor
    values: torch.Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens, n."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold."""
        return self.keys.nbytes + self.values.nbytes


def content_key(fingerprint: bytes, ids: Iterable[int]) -> bytes:
    """The key of a passage's memory: a hash over what shaped it and over its tokens."""
    digest = hashlib.blake2b(fingerprint, digest_size=16)
    for token in ids:
        digest.update(token.to_bytes(4, "little"))
    return digest.digest()


class MemoryCache:
    """Passage memories by content, least recently used first out, bounded in bytes. Thread-safe.

    Memories that a request holds stay alive until it lets them go, whatever is evicted meanwhile.

    Args:
        max_bytes: what the memories may take together; 0 remembers nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._bytes = 0
        self._memories: OrderedDict[bytes, PassageMemory] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> PassageMemory | None:
        """The memory of this key, or None; counts the hit or miss."""
        with self._lock:
            memory = self._memories.get(key)
            if memory is None:
                self.misses += 1
            else:
                self.hits += 1
                self._memories.move_to_end(key)
            return memory

    def put(self, memory: PassageMemory) -> None:
        """Remember it, and forget the least recently used ones that no longer fit."""
        with self._lock:
            if memory.key in self._memories or memory.nbytes > self.max_bytes:
                return
            self._memories[memory.key] = memory
            self._bytes += memory.nbytes
            while self._bytes > self.max_bytes:
                _, old = self._memories.popitem(last=False)
                self._bytes -= old.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._memories)

    def clear(self) -> None:
        """Forget everything; the counts stay."""
        with self._lock:
            self._memories.clear()
            self._bytes = 0
