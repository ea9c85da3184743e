"""Passages' keys in tiers: memory, over an optional store on disk, over the model that reads what neither holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.reading.head_sets import Slot
from ctxshaper.reading.key_memory import KeyHandle, KeyMemory
from ctxshaper.reading.keys import KeyArena, PassageKeys, quantise
from ctxshaper.reading.prefill import Prefill, Wanted
from ctxshaper.reading.request_batcher import RequestBatcher
from ctxshaper.reading.store import KeyStore

_KIND = "keys"


@dataclass(frozen=True, eq=False)
class HeldKeys:
    """The keys of one request's passages.

    Attributes:
        arena: holds them.
        slots: the (layer, key head) of the arena's slots.
        places: by content key, where a passage begins in the arena and how many tokens it has.
        hits: how many were in memory.
        stored: how many came from the store.
    """

    arena: KeyArena
    slots: Sequence[Slot]
    places: Mapping[bytes, tuple[int, int]]
    hits: int = 0
    stored: int = 0
