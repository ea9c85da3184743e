"""What remains of a passage after one reading, and the bounded cache that remembers it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.reading.locks import ForkSafeLock

Handle = TypeVar("Handle")

# Joined copies of the last requests' memories may take this much beside the cache.
_JOINED_BYTES = 2**28


def content_key(fingerprint: bytes, ids: NDArray[np.int32]) -> bytes:
    """The key of a passage's memory: a hash over what shaped it and over its tokens."""
    digest = hashlib.blake2b(fingerprint, digest_size=16)
    digest.update(ids.astype("<i4").tobytes())
    return digest.digest()


@dataclass(frozen=True)
class Held:
    """The memories that one query attends to, as pages.

    Attributes:
        keys: by layer, [N, KV, S, D] after rotary embedding.
        values: by layer, [N, KV, S, D]; the last layer's are never read.
        page_ids: [P] int32, the prefix first.
        page_lengths: [P] int32, valid slots of each page.
        places: by memory, where its tokens lie among the [P * S] slots.
    """

    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    page_ids: Tensor
    page_lengths: Tensor
    places: Mapping[bytes, slice]


class Writer(Protocol[Handle]):
    """Takes the keys and values of a batch of passages, layer by layer."""

    def layer(self, layer: int, keys: Tensor, values: Tensor | None) -> None:
        """Keys and values [KV, T, D] of one layer, passages end to end; the last layer read has no values."""
        ...

    def finish(self) -> dict[bytes, Handle]:
        """The memories, remembered, and held for the caller until released."""
        ...

    def abandon(self) -> None:
        """Give back what was taken for a batch whose reading failed."""
        ...


class Memories(Protocol[Handle]):
    """Passage memories by content, bounded in bytes, least recently used first out. Thread-safe.

    What a request holds stays as it is until released, whatever is evicted meanwhile.
    """

    def take(self, keys: Iterable[bytes]) -> dict[bytes, Handle]:
        """Those remembered of these keys, held for the caller."""
        ...

    def hold(self, handles: Iterable[Handle]) -> None:
        """Hold once more what somebody holds."""
        ...

    def writer(self, tokens: Mapping[bytes, int]) -> Writer[Handle]:
        """A writer for new passages, given the tokens of each, in the order in which they are laid out."""
        ...

    def release(self, handles: Iterable[Handle]) -> None:
        """Let go of what `take`, `hold` or `finish` gave."""
        ...

    def request(self, handles: Mapping[bytes, Handle]) -> Held:
        """What a query attends to."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


@dataclass(frozen=True, slots=True)
class PassageMemory:
    """One passage (or one window of a long one) as a reader's early layers remember it.

    Attributes:
        key: what identifies it: content, model, layers, prefix and type.
        keys: [L, KV, n, D] after rotary embedding.
        values: [L - 1, KV, n, D]; the last layer read needs no values.
    """

    key: bytes
    keys: Tensor
    values: Tensor

    @property
    def tokens(self) -> int:
        """Number of tokens, n."""
        return int(self.keys.shape[2])

    @property
    def nbytes(self) -> int:
        """Bytes that the tensors hold."""
        return self.keys.nbytes + self.values.nbytes


class MemoryCache:
    """`Memories` as a tensor per passage, joined in one copy per set of passages: what suits a CPU.

    Args:
        max_bytes: what the memories may take together; 0 remembers nothing.
        prefix: keys and values [KV, P, D] of the prompt's prefix, by layer.
    """

    def __init__(self, max_bytes: int, prefix: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.max_bytes = max_bytes
        self._prefix_keys = torch.stack([k for k, _ in prefix])
        self._prefix_values = torch.stack([v for _, v in prefix])[:-1]
        self._bytes = 0
        self._memories: OrderedDict[bytes, PassageMemory] = OrderedDict()
        # The joined memories of the last requests: a second query over the same passages copies nothing.
        self._joined: OrderedDict[tuple[bytes, ...], Held] = OrderedDict()
        self._lock = ForkSafeLock()

    def take(self, keys: Iterable[bytes]) -> dict[bytes, PassageMemory]:
        """See `Memories`."""
        found = {}
        with self._lock:
            for key in keys:
                memory = self._memories.get(key)
                if memory is not None:
                    self._memories.move_to_end(key)
                    found[key] = memory
        return found

    def hold(self, handles: Iterable[PassageMemory]) -> None:
        """See `release`."""

    def writer(self, tokens: Mapping[bytes, int]) -> Writer[PassageMemory]:
        """See `Memories`."""
        return _Slices(self, tokens)

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

    def release(self, handles: Iterable[PassageMemory]) -> None:
        """Nothing to do: a tensor lives as long as somebody holds it."""

    def request(self, handles: Mapping[bytes, PassageMemory]) -> Held:
        """See `Memories`."""
        name = tuple(handles)
        with self._lock:
            joined = self._joined.get(name)
            if joined is not None:
                self._joined.move_to_end(name)
                return joined
        joined = self._join(handles)
        with self._lock:
            self._joined[name] = joined
            while len(self._joined) > 1 and sum(map(_nbytes, self._joined.values())) > _JOINED_BYTES:
                self._joined.popitem(last=False)
        return joined

    def _join(self, memories: Mapping[bytes, PassageMemory]) -> Held:
        keys = torch.cat([self._prefix_keys, *(m.keys for m in memories.values())], dim=2)
        values = torch.cat([self._prefix_values, *(m.values for m in memories.values())], dim=2)
        page = torch.zeros(1, dtype=torch.int32, device=keys.device)
        starts = accumulate((m.tokens for m in memories.values()), initial=self._prefix_keys.shape[2])
        places = {key: slice(a, a + m.tokens) for a, (key, m) in zip(starts, memories.items(), strict=False)}
        pages = [k[None] for k in keys]
        # The last layer has no values; its keys stand in, and nothing reads them.
        return Held(pages, [*(v[None] for v in values), pages[-1]], page, page + keys.shape[2], places)

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._memories)

    def clear(self) -> None:
        """See `Memories`."""
        with self._lock:
            self._memories.clear()
            self._joined.clear()
            self._bytes = 0


def _nbytes(held: Held) -> int:
    return sum(t.nbytes for t in held.keys) + sum(t.nbytes for t in held.values[:-1])


@dataclass
class _Slices:
    """Writes passages into a `MemoryCache`."""

    cache: MemoryCache
    tokens: Mapping[bytes, int]
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def layer(self, layer: int, keys: Tensor, values: Tensor | None) -> None:  # noqa: ARG002  # they come in order
        """See `Writer`."""
        self.keys.append(keys)
        if values is not None:
            self.values.append(values)

    def finish(self) -> dict[bytes, PassageMemory]:
        """See `Writer`."""
        memories, start = {}, 0
        for key, length in self.tokens.items():
            own = slice(start, start + length)
            keys = torch.stack([k[:, own] for k in self.keys])
            values = torch.stack([v[:, own] for v in self.values]) if self.values else keys[:0]
            memories[key] = PassageMemory(key, keys, values)
            self.cache.put(memories[key])
            start += length
        return memories

    def abandon(self) -> None:
        """Nothing to do: the tensors go with this object."""
