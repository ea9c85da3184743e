"""Where the keys of one request lie in an arena: ragged ranges, cut into blocks once and asked by many queries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ctxshaper.errors import InvalidInputError

# Tokens of a block on a CPU: the products of 16 rows with 8,192 keys and what becomes of them fit a core's L2 cache of
# 2 MiB. Of 1,024 to 16,384 it was the fastest at 131,072 tokens of 2 slots (15 ms; 25 at 1,024, 16 at 16,384).
BLOCK = 8192
# Runs shorter than this are copied together into a block: some ten operations on each would cost more than the copy.
_SHORT = 1024


@dataclass(frozen=True)
class Block:
    """Tokens that are scored together.

    Attributes:
        tokens: their places among the scores.
        keys: their places in the arena: a slice, or [n] int64 places where many short runs make one block.
    """

    tokens: slice
    keys: slice | Tensor


class KeyRanges:
    """Ranges of an arena whose keys share one softmax; scores come in their order, without gaps.

    Make it once for a set of passages and keep it: the tables that a CPU or a GPU needs are cached in it. Ranges that
    touch are read as one, so ranges in the order of the arena are read fastest.

    Args:
        ranges: [N, 2] integers: where a range starts and how many tokens it has; 0 tokens are allowed.

    Attributes:
        tokens: tokens of all ranges together.
        end: one past the last place that is read.

    Raises:
        InvalidInputError: not [N, 2], or a negative number.
    """

    def __init__(self, ranges: ArrayLike) -> None:
        table = np.asarray(ranges, dtype=np.int64).reshape(-1, 2) if np.size(ranges) == 0 else np.asarray(ranges)
        if table.ndim != 2 or table.shape[1] != 2 or not np.issubdtype(table.dtype, np.integer):
            raise InvalidInputError(f"ranges are {table.dtype} {list(table.shape)}; needed are integers [N, 2].")
        if table.size and table.min() < 0:
            raise InvalidInputError(f"ranges hold {table.min()}; a start and a length must be at least 0.")
        self._starts, self._lengths = _joined(table.astype(np.int64))
        self.tokens = int(self._lengths.sum())
        self.end = int((self._starts + self._lengths).max()) if self.tokens else 0
        self._tables: dict[tuple[int, torch.device], Tensor] = {}

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The ranges in blocks of at most `BLOCK` tokens, in order."""
        blocks: list[Block] = []
        short: list[int] = []  # runs that wait to be copied together
        waiting = done = 0

        def flush() -> None:
            nonlocal waiting, done
            if short:
                keys = torch.from_numpy(_places(self._starts[short], self._lengths[short]))
                blocks.append(Block(slice(done, done + waiting), keys))
                done += waiting
                short.clear()
                waiting = 0

        for i, (start, length) in enumerate(zip(self._starts.tolist(), self._lengths.tolist(), strict=True)):
            if length < _SHORT:
                if waiting + length > BLOCK:
                    flush()
                short.append(i)
                waiting += length
                continue
            flush()
            pieces = -(-length // BLOCK)
            for piece in range(pieces):
                a, b = length * piece // pieces, length * (piece + 1) // pieces
                blocks.append(Block(slice(done + a, done + b), slice(start + a, start + b)))
            done += length
        flush()
        return tuple(blocks)

    def table(self, size: int, device: torch.device) -> Tensor:
        """The ranges in tiles, one for each program of a kernel.

        Args:
            size: most tokens of a tile.
            device: where the table is needed; it is copied there once.

        Returns:
            [tiles, 3] int32: start in the arena, tokens, place of the first among the scores.
        """
        table = self._tables.get((size, device))
        if table is None:
            tiles = -(-self._lengths // size)
            run = np.repeat(np.arange(len(tiles)), tiles)
            within = size * (np.arange(len(run)) - np.repeat(np.cumsum(tiles) - tiles, tiles))
            length = np.minimum(self._lengths[run] - within, size)
            out = np.cumsum(length) - length
            rows = np.stack((self._starts[run] + within, length, out), 1).astype(np.int32)
            table = self._tables[size, device] = torch.from_numpy(rows).to(device)
        return table


def _joined(table: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the runs: ranges that are not empty, those that touch as one."""
    table = table[table[:, 1] > 0]
    starts, lengths = table[:, 0], table[:, 1]
    first = np.flatnonzero(np.concatenate(([True], starts[1:] != (starts + lengths)[:-1]))[: len(starts)])
    return starts[first], np.add.reduceat(lengths, first) if len(first) else lengths


def _places(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    ends = np.cumsum(lengths)
    places: NDArray[np.int64] = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
    return places
