"""A bounded pool of pages that holds the keys and values of passage memories."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError, PoolFullError
from ctxshaper.kernels import page_write
from ctxshaper.reading.locks import ForkSafeLock


@dataclass(frozen=True, eq=False)
class PageRun:
    """The pages of one passage memory, in reading order.

    Attributes:
        pages: page numbers in the pool.
        tokens: how many tokens they hold; every page but the last is full.
    """

    pages: tuple[int, ...]
    tokens: int


class PagedPool:
    """Keys and values of all layers in pages of a fixed size, allocated, counted and freed on the host.

    A run of pages starts with one reference, held by whoever allocated it. A request that reads a run pins it for as
    long as it launches work on it; freed runs return to the pool when the last reference is gone. Work that is queued
    on one stream is ordered, so a page that is reused after its release cannot change a result that is being computed
    there; a caller with several streams must order them itself. No slot ever holds NaN or infinity unless a model
    wrote it, which is what `finite` of `query_attention` asks for.

    Attributes:
        keys: [layers, N, KV, S, D].
        values: [layers, N, KV, S, D].
        page_size: S, slots of a page.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        head_dim: int,
        *,
        capacity_pages: int,
        page_size: int = 128,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
    ) -> None:
        """Allocate the whole pool at once: it never grows.

        Args:
            layers: layers whose keys and values are kept.
            kv_heads: KV heads of a layer.
            head_dim: D, the dimension of a head.
            capacity_pages: N, the bound.
            page_size: slots of a page; 128 reads fastest on a GPU, a smaller one wastes less on short passages.
            dtype: type of keys and values.
            device: where they live.

        Raises:
            InvalidInputError: a size below 1.
        """
        sizes = (layers, capacity_pages, kv_heads, page_size, head_dim)
        if min(sizes) < 1:
            raise InvalidInputError(
                f"a pool of [layers, pages, KV, slots, D] = {list(sizes)}; each must be at least 1."
            )
        self.keys = torch.zeros(sizes, dtype=dtype, device=device)
        self.values = torch.zeros(sizes, dtype=dtype, device=device)
        self.page_size = page_size
        self._lock = ForkSafeLock()
        self._free = list(range(capacity_pages - 1, -1, -1))
        self._references = [0] * capacity_pages

    @property
    def capacity_pages(self) -> int:
        """Pages in all."""
        return self.keys.shape[1]

    @property
    def free_pages(self) -> int:
        """Pages that can be allocated now."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values together."""
        return 2 * self.keys.nbytes

    def allocate(self, tokens: int) -> PageRun:
        """Take pages for `tokens` tokens, with one reference.

        Args:
            tokens: at least 0; an empty passage takes no page.

        Returns:
            The run; its slots hold old or zero values until they are written.

        Raises:
            InvalidInputError: a negative number of tokens.
            PoolFullError: too few pages are free; free a run and try again.
        """
        if tokens < 0:
            raise InvalidInputError(f"tokens is {tokens}; it must be at least 0.")
        count = -(-tokens // self.page_size)
        with self._lock:
            if count > len(self._free):
                raise PoolFullError(
                    f"{tokens} tokens need {count} pages of {self.page_size}; {len(self._free)} of "
                    f"{self.capacity_pages} are free. Free a memory that no request uses, or build "
                    f"the pool with more capacity_pages."
                )
            pages = tuple(self._free.pop() for _ in range(count))
            for page in pages:
                self._references[page] = 1
        return PageRun(pages, tokens)

    def pin(self, run: PageRun) -> None:
        """Add a reference to a run, so that a release by its owner does not free it.

        Raises:
            InvalidInputError: the run was freed already.
        """
        with self._lock:
            self._check_held(run)
            for page in run.pages:
                self._references[page] += 1

    def release(self, run: PageRun) -> None:
        """Drop a reference; pages without any are free again.

        Raises:
            InvalidInputError: the run was freed already.
        """
        with self._lock:
            self._check_held(run)
            for page in reversed(run.pages):
                self._references[page] -= 1
                if not self._references[page]:
                    self._free.append(page)

    def places(self, runs: Sequence[PageRun]) -> Tensor:
        """Number the slots that the tokens of runs take, one after the other, for `write`.

        Args:
            runs: runs in the order of the tokens that will be written.

        Returns:
            [T] int64 on the pool's device: page * S + slot.
        """
        numbers = [
            torch.tensor(run.pages).repeat_interleave(self.page_size)[: run.tokens] * self.page_size
            + torch.arange(run.tokens) % self.page_size
            for run in runs
            if run.tokens
        ]
        return (torch.cat(numbers) if numbers else torch.zeros(0, dtype=torch.long)).to(self.keys.device)

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Write the keys and values of one layer.

        Args:
            layer: number of the layer in the pool.
            places: [T] from `places`.
            keys: [KV, T, D], any strides.
            values: [KV, T, D].

        Raises:
            InvalidInputError: shapes that do not fit the pool.
        """
        kv_heads, dim = self.keys.shape[2], self.keys.shape[4]
        expected = (kv_heads, places.numel(), dim)
        if keys.shape != expected or values.shape != expected:
            raise InvalidInputError(
                f"keys are {list(keys.shape)} and values {list(values.shape)}; needed is {list(expected)}."
            )
        page_write(self.keys[layer], self.values[layer], places, keys, values)

    def request(self, runs: Sequence[PageRun]) -> tuple[Tensor, Tensor]:
        """List the pages of a request.

        Args:
            runs: the memories to attend to, in reading order.

        Returns:
            page_ids [P] int32 and page_lengths [P] int32 on the pool's device.
        """
        ids = [page for run in runs for page in run.pages]
        lengths = [min(self.page_size, run.tokens - i * self.page_size) for run in runs for i in range(len(run.pages))]
        both = torch.tensor([ids, lengths], dtype=torch.int32).to(self.keys.device)
        return both[0], both[1]

    def _check_held(self, run: PageRun) -> None:
        for page in run.pages:
            if not 0 <= page < self.capacity_pages or self._references[page] == 0:
                raise InvalidInputError(
                    f"page {page} is not in use; its run was released already or is of another pool."
                )
