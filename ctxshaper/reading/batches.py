"""Prefill of passages: through the layers in batches, into the memories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ctxshaper.data import deadline
from ctxshaper.models.decoder import Decoder
from ctxshaper.reading.attention import ReadPassages
from ctxshaper.reading.memory import Memories
from ctxshaper.reading.request_batcher import Wanted

# Tokens of one forward pass: enough to keep the matrix unit busy, small enough to keep activations in a few MB. Set by
# hand: on two cores 1,024 to 4,096 took the same time, on an H200 8,192 was the fastest (benchmarks/GPU_LOG.md).
_CHUNK = {"cpu": 2048, "cuda": 8192, "mps": 4096}


def read_prefix(decoder: Decoder, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """By layer, keys and values [T, Hkv, D] of what stands in front of every passage; of the last layer keys twice."""
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(_: int, keys: Tensor, values: Tensor | None) -> None:
        kept.append((keys.contiguous(), keys if values is None else values.contiguous()))

    decoder.run(ids, range(len(ids)), ReadPassages(_offsets([len(ids)], decoder), decoder.layers - 1, keep))
    return kept


@dataclass(frozen=True)
class PassageBatches:
    """Reads passages that are not remembered yet.

    Attributes:
        decoder: the layers.
        cache: takes their keys and values.
        prefix: what stands in front of every passage; see `read_prefix`.
        end: the position behind a passage's last token.
    """

    decoder: Decoder
    cache: Memories[Any]
    prefix: list[tuple[Tensor, Tensor]]
    end: int

    def read(self, wanted: Wanted) -> dict[bytes, Any]:
        """The memories of passages, given their tokens by key, held for the caller; batched by length."""
        order = sorted(wanted, key=lambda key: (len(wanted[key]), key))
        chunk, batches, size = _CHUNK.get(self.decoder.device.type, 2048), list[list[bytes]](), 0
        for key in order:
            if not batches or size + len(wanted[key]) > chunk:
                batches.append([])
                size = 0
            batches[-1].append(key)
            size += len(wanted[key])
        found: dict[bytes, Any] = {}
        try:
            for batch in batches:
                deadline.check()
                found |= self._read_batch({key: wanted[key] for key in batch})
        except BaseException:
            self.cache.release(found.values())
            raise
        return found

    def _read_batch(self, batch: Wanted) -> dict[bytes, Any]:
        ids = np.concatenate(list(batch.values())).tolist()
        positions = [p for tokens in batch.values() for p in range(self.end - len(tokens), self.end)]
        lengths = {key: len(tokens) for key, tokens in batch.items()}
        writer = self.cache.writer(lengths)
        try:
            offsets = _offsets(list(lengths.values()), self.decoder)
            call = ReadPassages(offsets, self.decoder.layers - 1, writer.layer, self.prefix)
            self.decoder.run(ids, positions, call)
        except BaseException:
            writer.abandon()
            raise
        return writer.finish()


def _offsets(lengths: Sequence[int], decoder: Decoder) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=decoder.device)
