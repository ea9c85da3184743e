"""A store's files in their folder: opened by many processes, replaced by one while no other opens them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ctxshaper.reading.store.records import FILE

_log = logging.getLogger(__name__)

_LOCK = f"{FILE}-lock"
_OPENING = "store.opening"


def identity(folder: Path) -> tuple[int, int] | None:
    """The device and inode of a folder's store, by which a replaced file is told; None where there is none."""
    try:
        found = (folder / FILE).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def put_aside(folder: Path, why: str) -> None:
    """Rename a damaged store, and say so; the next to open the folder makes a new one."""
    number = 1
    while (folder / f"{FILE}.damaged-{number}").exists():
        number += 1
    kept = folder / f"{FILE}.damaged-{number}"
    replace_file(folder, kept=kept)
    _log.warning(
        "the store in %s is damaged (%s): it was renamed to %s and a new one begun; passages are read anew, nothing "
        "else is lost, and the renamed file may be deleted",
        folder,
        why,
        kept.name,
    )


def set_aside(folder: Path) -> list[Path]:
    """The damaged files that were renamed."""
    return sorted(folder.glob(f"{FILE}.damaged-*"))


def replace_file(folder: Path, *, kept: Path | None = None, by: Path | None = None) -> None:
    """Move a store's file away, or another into its place; those who have it open keep the old one and notice.

    The lock file goes too: it describes the file that it was made for.
    """
    if kept is not None:
        (folder / FILE).rename(kept)
    if by is not None:
        by.replace(folder / FILE)
    with suppress(FileNotFoundError):
        (folder / _LOCK).unlink()


@contextmanager
def opening(folder: Path, *, alone: bool) -> Iterator[None]:
    """Between processes: many may open a store at a time, or one may replace its file."""
    try:
        # POSIX only; elsewhere an open file cannot be renamed in the first place.
        import fcntl
    except ImportError:
        yield
        return
    try:
        lock = os.open(folder / _OPENING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        # A folder that may not be written: nobody renames in it either.
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)
