"""Passage memories in a paged pool on a GPU: requests share pages, and nothing is copied to be asked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ctxshaper.errors import InvalidInputError, PoolFullError
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.memory import Held
from ctxshaper.reading.pool import PagedPool, PageRun

# 128 reads fastest, but a passage of 150 tokens would waste half of its second page.
_PAGE = 64


class PagedCache:
    """`Memories` in the pages of a pool that is allocated at once and never grows.

    Args:
        max_bytes: what the pool may take.
        prefix: keys and values [KV, P, D] of the prompt's prefix, by layer.

    Raises:
        InvalidInputError: too few bytes for the prefix and a page beside it.
    """

    def __init__(self, max_bytes: int, prefix: Sequence[tuple[Tensor, Tensor]]) -> None:
        keys = prefix[0][0]
        kv_heads, tokens, dim = keys.shape
        page_bytes = 2 * len(prefix) * kv_heads * _PAGE * dim * keys.element_size()
        if max_bytes < page_bytes * (tokens // _PAGE + 2):
            raise InvalidInputError(
                f"cache_bytes is {max_bytes:,}; on a GPU passages are read into pages of {page_bytes:,} bytes, and at "
                f"least {tokens // _PAGE + 2} are needed"
            )
        self.pool = PagedPool(
            len(prefix), kv_heads, dim, capacity_pages=max_bytes // page_bytes, page_size=_PAGE,
            dtype=keys.dtype, device=keys.device,
        )  # fmt: skip
        self._keys, self._values = self.pool.keys.unbind(), self.pool.values.unbind()
        self._prefix = self.pool.allocate(tokens)
        places = self.pool.places([self._prefix])
        for layer, (k, v) in enumerate(prefix):
            self.pool.write(layer, places, k, v)
        self._runs: OrderedDict[bytes, PageRun] = OrderedDict()
        self._lock = ForkSafeLock()

    def take(self, keys: Iterable[bytes]) -> dict[bytes, PageRun]:
        """See `Memories`."""
        found = {}
        with self._lock:
            for key in keys:
                run = self._runs.get(key)
                if run is not None:
                    self._runs.move_to_end(key)
                    self.pool.pin(run)
                    found[key] = run
        return found

    def hold(self, handles: Iterable[PageRun]) -> None:
        """See `Memories`."""
        for run in handles:
            self.pool.pin(run)

    def writer(self, tokens: Mapping[bytes, int]) -> _PageWriter:
        """See `Memories`.

        Raises:
            InvalidInputError: more passages than the pool holds beside those in use.
        """
        runs: dict[bytes, PageRun] = {}
        with self._lock:
            for key, length in tokens.items():
                run = self._allocate(length)
                if run is None:
                    self.release(runs.values())
                    raise InvalidInputError(
                        f"the passages of the requests that run now do not fit into {self.pool.nbytes:,} bytes of GPU "
                        "memory; pass fewer passages, or raise cache_bytes"
                    )
                runs[key] = run
        return _PageWriter(self, runs, self.pool.places(list(runs.values())))

    def _allocate(self, tokens: int) -> PageRun | None:
        while True:
            try:
                return self.pool.allocate(tokens)
            except PoolFullError:
                if not self._runs:
                    return None
                # The oldest goes. Its pages come free at once unless a request still reads them.
                _, oldest = self._runs.popitem(last=False)
                self.pool.release(oldest)

    def remember(self, runs: Mapping[bytes, PageRun]) -> None:
        """Keep runs that have been written; the caller holds them too, until it releases them."""
        with self._lock:
            for key, run in runs.items():
                if key not in self._runs:
                    self._runs[key] = run
                    self.pool.pin(run)

    def release(self, handles: Iterable[PageRun]) -> None:
        """See `Memories`."""
        for run in handles:
            self.pool.release(run)

    def request(self, handles: Mapping[bytes, PageRun]) -> Held:
        """See `Memories`."""
        runs = [self._prefix, *handles.values()]
        ids, lengths = self.pool.request(runs)
        places, page = {}, len(self._prefix.pages)
        for key, run in handles.items():
            places[key] = slice(page * _PAGE, page * _PAGE + run.tokens)
            page += len(run.pages)
        return Held(self._keys, self._values, ids, lengths, places)

    @property
    def nbytes(self) -> int:
        """Bytes of the pages that are remembered."""
        return sum(len(run.pages) for run in self._runs.values()) * (self.pool.nbytes // self.pool.capacity_pages)

    def __len__(self) -> int:
        return len(self._runs)

    def clear(self) -> None:
        """See `Memories`."""
        with self._lock:
            self.release(self._runs.values())
            self._runs.clear()


@dataclass
class _PageWriter:
    """Writes passages into a `PagedCache`, each layer as it is read."""

    cache: PagedCache
    runs: dict[bytes, PageRun]
    places: Tensor

    def layer(self, layer: int, keys: Tensor, values: Tensor | None) -> None:
        """See `Writer`."""
        # The last layer has no values; its keys stand in, and nothing reads them.
        self.cache.pool.write(layer, self.places, keys, keys if values is None else values)

    def finish(self) -> dict[bytes, PageRun]:
        """See `Writer`."""
        self.cache.remember(self.runs)
        return self.runs

    def abandon(self) -> None:
        """See `Writer`."""
        self.cache.release(self.runs.values())
