"""What an injection probe sees of texts: the values of some layers, token by token, as a reader reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.data import Passage
from ctxshaper.reading.attention import ReadPassages
from ctxshaper.reading.passage_tokens import Tokens
from ctxshaper.reading.prefill import offsets_of, read_prefix
from ctxshaper.reading.reader import Reader

Values = NDArray[np.float16]
# Tokens of one forward pass.
_BATCH = 2048


def read_values(
    reader: Reader, passages: Sequence[Passage], layers: Sequence[int]
) -> Iterator[tuple[NDArray[np.int64], Values]]:
    """The values of each passage's tokens at some layers, in the order given.

    Args:
        reader: whose model reads, behind its profile's prefix.
        passages: short ones: of a long one only the first window is read.
        layers: counted from 0; sorted, within those that the reader's profile reads.

    Yields:
        [n, 2] character offsets, and [n, len(layers) * KV * D] values.
    """
    prefix = read_prefix(reader.decoder, reader.layout.prefix)
    tokens = [reader.layout.passage(passage) for passage in passages]
    batch: list[Tokens] = []
    for one in tokens:
        if batch and sum(len(own.ids[0]) for own in batch) + len(one.ids[0]) > _BATCH:
            yield from _read(reader, batch, layers, prefix)
            batch = []
        batch.append(one)
    if batch:
        yield from _read(reader, batch, layers, prefix)


def _read(
    reader: Reader, batch: Sequence[Tokens], layers: Sequence[int], prefix: list[tuple[Tensor, Tensor]]
) -> Iterator[tuple[NDArray[np.int64], Values]]:
    found: list[Tensor] = []

    def keep(layer: int, _: Tensor, values: Tensor) -> None:
        if layer in layers:
            found.append(values.transpose(0, 1).flatten(1).half().cpu())

    lengths = [len(one.ids[0]) for one in batch]
    call = ReadPassages(offsets_of(lengths, reader.decoder), layers[-1], keep, prefix)
    end = reader.layout.end
    positions = np.concatenate([np.arange(end - n, end) for n in lengths]).tolist()
    reader.decoder.run(np.concatenate([one.ids[0] for one in batch]).tolist(), positions, call)
    whole = torch.cat(found, 1).numpy()
    for one, values in zip(batch, np.split(whole, np.cumsum(lengths)[:-1]), strict=True):
        yield one.offsets[: len(one.ids[0]) - one.heading], values[one.heading :]
