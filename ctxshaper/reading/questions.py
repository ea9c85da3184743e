"""Queries as rows that are held against passages' keys: passes in batches, remembered by their text."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.reading.head_sets import HeadSet
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.layout import Question
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.query_pass import Pass, QueryPasses
from ctxshaper.reading.request_batcher import RequestBatcher

# Bytes of passes that are remembered: some thousand queries at four heads.
_KEPT_BYTES = 2**25


class PassMemory:
    """The passes of the last queries, bounded in bytes, least recently used first out. Thread-safe."""

    def __init__(self) -> None:
        self._passes: OrderedDict[bytes, Pass] = OrderedDict()
        self._bytes = 0
        self._lock = ForkSafeLock()

    def take(self, keys: Iterable[bytes]) -> dict[bytes, Pass]:
        """See `Memories`."""
        found = {}
        with self._lock:
            for key in keys:
                one = self._passes.get(key)
                if one is not None:
                    self._passes.move_to_end(key)
                    found[key] = one
        return found

    def put(self, passes: Mapping[bytes, Pass]) -> None:
        """Remember passes, and forget the oldest that no longer fit."""
        with self._lock:
            for key, one in passes.items():
                if key not in self._passes:
                    self._passes[key] = one
                    self._bytes += _bytes_of(one)
            while self._bytes > _KEPT_BYTES:
                self._bytes -= _bytes_of(self._passes.popitem(last=False)[1])

    def hold(self, handles: Iterable[Pass]) -> None:
        """Nothing to do: a tensor lives as long as somebody holds it."""

    def release(self, handles: Iterable[Pass]) -> None:
        """Nothing to do, likewise."""


class Questions:
    """Turns queries into `QueryRows` for one head set. Thread-safe: queries that meet run as one batch.

    Args:
        passes: runs queries through the layers.
        heads: the heads that count.
    """

    def __init__(self, passes: QueryPasses, heads: HeadSet) -> None:
        self._passes, self._heads = passes, heads
        self._slots = tuple(heads.slots.index((pair.layer, pair.kv_head)) for pair in heads.pairs)
        self._memory = PassMemory()
        self._batcher: RequestBatcher[Question, Pass] = RequestBatcher(self._memory, self._read)

    def rows(self, questions: Sequence[Question], without: Question | None = None) -> list[QueryRows]:
        """The rows of each question; slots are counted within the head set's own.

        Args:
            questions: what is asked.
            without: a question without content, whose attention is subtracted; its rows count below 0.

        Raises:
            DeadlineError: the request's time is over.
        """
        wanted = {question.key: question for question in questions}
        if without is not None:
            wanted[without.key] = without
        found = self._memory.take(wanted)
        found |= self._batcher.read({key: question for key, question in wanted.items() if key not in found})
        return [self._rows(found, question, without) for question in questions]

    def _read(self, wanted: Mapping[bytes, Question]) -> dict[bytes, Pass]:
        passes = self._passes.read({key: (question.ids, question.rows) for key, question in wanted.items()})
        self._memory.put(passes)
        return passes

    def _rows(self, found: Mapping[bytes, Pass], question: Question, without: Question | None) -> QueryRows:
        parts, counts = [found[question.key]], question.counts
        if without is not None:
            parts.append(found[without.key])
            counts = np.concatenate((counts, -without.counts))
        return QueryRows(
            rows=torch.cat([part.rows for part in parts], 1),
            slots=self._slots,
            rest=torch.cat([part.rest for part in parts], 1),
            prefix=torch.cat([part.on_prefix for part in parts], 1),
            weights=self._weights(counts, parts[0].rows.device),
            scale=parts[0].scale,
            softcap=parts[0].softcap,
        )

    def _weights(self, counts: NDArray[np.float64], device: torch.device) -> torch.Tensor:
        """[P, R] float32."""
        heads = torch.tensor([pair.weight for pair in self._heads.pairs], dtype=torch.float32)
        weights = heads[:, None] * torch.from_numpy(counts).float()
        # From pinned memory, or the copy would wait for the pass to end.
        return weights.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else weights.to(device)


def _bytes_of(one: Pass) -> int:
    return one.rows.nbytes + one.rest.nbytes + one.on_prefix.nbytes
