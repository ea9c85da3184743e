"""Prefill: prefix and passages through the layers in batches; of a passage only the keys that are asked for stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.data import deadline
from ctxshaper.models.decoder import Decoder
from ctxshaper.reading.attention import KeepSlots, Prefix, ReadPassages
from ctxshaper.reading.head_sets import Slot
from ctxshaper.reading.injection_probe import InjectionProbe
from ctxshaper.reading.token_marks import TokenMarks

# Tokens of one forward pass: enough to keep the matrix unit busy, small enough to keep activations in a few MB. Set by
# hand: on two cores 1,024 to 4,096 took the same time, on an H200 8,192 was the fastest (docs/gpu_log.md).
CHUNK = {"cpu": 2048, "cuda": 8192, "mps": 4096}

Wanted = Mapping[bytes, NDArray[np.int32]]


def read_prefix(decoder: Decoder, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """By layer, keys and values [KV, T, D] of what stands in front of every passage."""
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(_: int, keys: Tensor, values: Tensor) -> None:
        kept.append((keys.contiguous(), values.contiguous()))

    decoder.run(ids, range(len(ids)), ReadPassages(offsets_of([len(ids)], decoder), decoder.layers - 1, keep))
    return kept


@dataclass(frozen=True)
class Prefill:
    """Reads passages that are not remembered.

    Attributes:
        decoder: the layers.
        prefix: what stands in front of every passage; see `read_prefix`.
        end: the position behind a passage's last token.
        slots: the (layer, key head) whose keys are wanted, sorted.
        probe: scores each token by its values, or None.
    """

    decoder: Decoder
    prefix: Prefix
    end: int
    slots: Sequence[Slot]
    probe: InjectionProbe | None = None

    def read(self, wanted: Wanted) -> Iterator[tuple[list[bytes], list[int], Tensor, Tensor | None]]:
        """The keys of passages, given their tokens by content key, batch by batch.

        Yields:
            The content keys of a batch, each passage's tokens, and the keys of all, end to end: [slots, T, D] in the
            model's type, after rotary embedding; and the probe's scores of the tokens, [T] float16, if there is one.

        Raises:
            DeadlineError: the request's time is over.
        """
        for batch in self._batches(wanted):
            deadline.check()
            lengths = [len(wanted[key]) for key in batch]
            yield batch, lengths, *self._read([wanted[key] for key in batch], lengths)

    def _batches(self, wanted: Wanted) -> list[list[bytes]]:
        # By length and content, so that what is read together does not depend on the order of the passages.
        order = sorted(wanted, key=lambda key: (len(wanted[key]), key))
        chunk, batches, size = CHUNK.get(self.decoder.device.type, 2048), list[list[bytes]](), 0
        for key in order:
            if not batches or size + len(wanted[key]) > chunk:
                batches.append([])
                size = 0
            batches[-1].append(key)
            size += len(wanted[key])
        return batches

    def _read(self, texts: Sequence[NDArray[np.int32]], lengths: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        ids = np.concatenate(texts).tolist()
        positions = np.concatenate([np.arange(self.end - n, self.end) for n in lengths]).tolist()
        marks = None if self.probe is None else TokenMarks(self.probe, self.decoder.device)
        keep = KeepSlots(self.slots, marks)
        last = self.slots[-1][0] if marks is None else max(self.slots[-1][0], marks.last)
        self.decoder.run(ids, positions, ReadPassages(offsets_of(lengths, self.decoder), last, keep, self.prefix))
        return keep.keys, None if marks is None else marks.take()


def offsets_of(lengths: Sequence[int], decoder: Decoder) -> Tensor:
    """[N + 1] int32 on the model's device: where each of N texts starts that are laid end to end."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=decoder.device)
