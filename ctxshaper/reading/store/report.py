"""What a store says about itself: its sizes, and what a check of all its records found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NamespaceStat:
    """The records of one kind under one fingerprint.

    Attributes:
        kind: what they are: "keys", "embedding", "tokens", "segments".
        fingerprint: of the weights and settings that made them.
        entries: how many; a record that was replaced counts until its block goes.
        size: bytes of the blocks they lie in, without the rounding to pages.
        last_used: of the block used last, in seconds since 1970.
    """

    kind: str
    fingerprint: bytes
    entries: int
    size: int
    last_used: float


@dataclass(frozen=True)
class StoreStat:
    """The sizes of a store.

    Attributes:
        path: its folder.
        max_bytes: the bound on its file.
        file_bytes: what the file holds now.
        namespaces: by kind and fingerprint, the largest first.
        set_aside: damaged stores that were renamed, still in the folder.
    """

    path: Path
    max_bytes: int
    file_bytes: int
    namespaces: tuple[NamespaceStat, ...]
    set_aside: tuple[Path, ...]

    @property
    def entries(self) -> int:
        """The records of all namespaces."""
        return sum(space.entries for space in self.namespaces)


@dataclass(frozen=True)
class StoreCheck:
    """What a check of the whole store found.

    Attributes:
        records: how many can be found by their keys, damaged ones included.
        damaged: those of them whose place or checksum is wrong.
        structure: what is wrong with LMDB's own pages; then nothing else could be trusted, and records is 0.
        repaired: whether the damaged ones were dropped, or the damaged file set aside.
    """

    records: int
    damaged: int
    structure: tuple[str, ...]
    repaired: bool

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return not self.damaged and not self.structure
