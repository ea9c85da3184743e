"""The query's pass: it runs through the layers seeing the prefix and itself, whatever the passages are."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.kernels import GraphedCall
from ctxshaper.kernels.dispatch import half_precision_reason, head_dim_reason, use_triton
from ctxshaper.models.decoder import Decoder
from ctxshaper.reading.attention import Prefix, ReadQueries
from ctxshaper.reading.head_sets import HeadSet
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.prefill import CHUNK

# On a GPU the pass is some hundred launches of a few microseconds, and the host is slower than the device: shapes that
# return are captured as graphs. Tokens are padded to a multiple of 16 and queries to a power of two, so that few
# shapes are many queries; a capture costs some ten passes, so only a shape seen three times is worth one. Set by hand.
_PAD, _SEEN, _GRAPHS = 16, 3, 8

_Outputs = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Pass:
    """What one query's pass gave.

    Attributes:
        rows: [P, R, D] its rows at the set's heads, after rotary embedding.
        rest: [P, R] float32 log-sum-exp of what the prefix and the query itself take of each row's softmax.
        on_prefix: [P, R] float32 the same of the prefix alone.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.
    """

    rows: Tensor
    rest: Tensor
    on_prefix: Tensor
    scale: float
    softcap: float | None


class QueryPasses:
    """Runs queries through the layers up to a head set's last, many in one batch. Thread-safe.

    Args:
        decoder: the layers.
        prefix: keys and values of the prefix; see `read_prefix`.
        end: the position of a query's first token.
        heads: the heads whose rows are wanted.
    """

    def __init__(self, decoder: Decoder, prefix: Prefix, end: int, heads: HeadSet) -> None:
        self._decoder, self._prefix, self._end, self._pairs = decoder, prefix, end, heads.pairs
        self._logits: tuple[float, float | None] = (1.0, None)
        self._seen: Counter[tuple[int, int]] = Counter()
        self._graphs: OrderedDict[tuple[int, int], GraphedCall[_Outputs]] = OrderedDict()
        self._lock = ForkSafeLock()
        keys = prefix[0][0]
        # What the reference does (it looks at lengths on the host) cannot be captured.
        reason = half_precision_reason(keys) or head_dim_reason(keys.shape[2])
        self._graphed = use_triton("the graph of a query's pass", "auto", reason, keys)

    def read(self, asked: Mapping[bytes, tuple[Sequence[int], Sequence[int]]]) -> dict[bytes, Pass]:
        """The passes of queries, by their keys.

        Args:
            asked: by key, the query's tokens in its frame, and which of them are wanted.

        Raises:
            DeadlineError: the request's time is over.
        """
        found: dict[bytes, Pass] = {}
        tokens = sum(rows[-1] + 1 for _, rows in asked.values())
        with tracing.span("ctxshaper.query_pass", queries=len(asked), tokens_read=tokens):
            for batch in self._batches(asked):
                deadline.check()
                found |= self._read_batch({key: asked[key] for key in batch})
        return found

    def _batches(self, asked: Mapping[bytes, tuple[Sequence[int], Sequence[int]]]) -> Iterator[list[bytes]]:
        most, batch, size = CHUNK.get(self._decoder.device.type, 2048) // 2, list[bytes](), 0
        for key in sorted(asked, key=lambda key: (len(asked[key][0]), key)):
            length = len(asked[key][0])
            if batch and size + length > most:
                yield batch
                batch, size = [], 0
            batch.append(key)
            size += length
        if batch:
            yield batch

    def _read_batch(self, asked: Mapping[bytes, tuple[Sequence[int], Sequence[int]]]) -> dict[bytes, Pass]:
        # What stands behind the last wanted row is seen by none of them.
        texts = [np.asarray(ids[: rows[-1] + 1], dtype=np.int64) for ids, rows in asked.values()]
        starts = np.array([0, *accumulate(map(len, texts))], dtype=np.int32)
        ids = np.concatenate(texts)
        positions = np.concatenate([np.arange(self._end, self._end + len(text)) for text in texts])
        if self._graphed:
            with self._lock:  # a graph writes its outputs in place
                outputs = [output.clone() for output in self._replayed(ids, positions, starts)]
        else:
            inputs = (
                torch.from_numpy(array).to(self._decoder.device) for array in (ids[None], positions[None], starts)
            )
            outputs = list(self._forward(*inputs))
        passes = {}
        for key, start, (_, rows) in zip(asked, starts, asked.values(), strict=False):
            chosen = [_at(output, int(start), rows) for output in outputs]
            passes[key] = Pass(chosen[0], chosen[1], chosen[2], *self._logits)
        return passes

    def _replayed(self, ids: NDArray[np.int64], positions: NDArray[np.int64], starts: NDArray[np.int32]) -> _Outputs:
        tokens = -(-len(ids) // _PAD) * _PAD
        queries = 1 << (len(starts) - 2).bit_length()
        # Padding reads as one more query behind the last; empty queries stand at the last one's end.
        padded = (
            np.pad(ids, (0, tokens - len(ids)), mode="edge")[None],
            np.pad(positions, (0, tokens - len(ids)), mode="edge")[None],
            np.pad(starts, (0, queries + 1 - len(starts)), mode="edge"),
        )
        inputs = [torch.from_numpy(array).to(self._decoder.device, non_blocking=True) for array in padded]
        shape = (tokens, queries)
        self._seen[shape] += 1
        if self._seen[shape] < _SEEN:
            return self._forward(*inputs)
        if shape not in self._graphs:
            # Outside of a request's deadline: a capture that is broken off would leave the stream unusable.
            with deadline.under(None):
                self._graphs[shape] = GraphedCall(self._forward, *inputs)
            if len(self._graphs) > _GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(shape)
        return self._graphs[shape](*inputs)

    def _forward(self, ids: Tensor, positions: Tensor, starts: Tensor) -> _Outputs:
        """Rows [P, T, D], log-sum-exps [P, T] of prefix and self, and of the prefix alone, at every token."""
        call = ReadQueries(starts, self._pairs, self._prefix)
        with torch.inference_mode():
            self._decoder.forward(ids, positions, call)
            self._logits = call.scale, call.softcap
            return torch.stack(call.rows), torch.stack(call.rest), torch.stack(call.on_prefix)


def _at(output: Tensor, start: int, rows: Sequence[int]) -> Tensor:
    """The wanted rows of one query, [P, R, ...]."""
    if rows[-1] - rows[0] == len(rows) - 1:
        # A slice: an index would be copied to the device, and the copy would wait for the pass to end.
        return output[:, start + rows[0] : start + rows[-1] + 1]
    return output.index_select(1, torch.tensor(rows, device=output.device) + start)
