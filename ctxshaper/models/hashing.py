"""What is in a file, and whether it is still the same file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hex; computed once per process while the file's size and time stay.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    return _file_hash(path.resolve(), status.st_size, status.st_mtime_ns)


@cache
def _file_hash(path: Path, _size: int, _time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content(paths: Sequence[Path]) -> str:
    """32 hex digits of what is in files, in their order; their names, places and times do not count."""
    with ThreadPoolExecutor(4) as threads:  # hashing lets other threads run; large models come in many files
        digests = list(threads.map(file_hash, paths))
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:32]


def stamp(paths: Sequence[Path]) -> str:
    """Paths, sizes and times of files: changes when one of them is replaced, without reading any."""
    return ";".join(f"{p.resolve()}:{(s := p.stat()).st_size}:{s.st_mtime_ns}" for p in paths)
