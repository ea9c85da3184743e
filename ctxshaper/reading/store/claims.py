"""Who is about to write which record: processes that lack the same passage do not all read it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FILE = "store.claims"


class Claims:
    """Locks by content hash, one for each record, between all processes and threads that share a store's folder.

    A record's lock is one byte of an empty file, at a place that its hash names, under POSIX byte-range locking: the
    system lets go of what a process held, however it ends. Where there is no such locking (no POSIX, a folder that may
    not be written), everybody gets what is asked for: at worst a passage is read twice. Thread-safe.

    Args:
        folder: the store's.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE
        self._lock = threading.Lock()
        # POSIX locks are a process's and not a thread's.
        self._held: set[bytes] = set()
        self._opened: int | None = None

    @contextmanager
    def take(self, contents: Iterable[bytes]) -> Iterator[set[bytes]]:
        """Claim records until the block ends.

        Yields:
            Those of the hashes that nobody else has claimed; nothing waits.
        """
        with self._lock:
            free = {content for content in contents if content not in self._held and self._locked(content)}
            self._held |= free
        try:
            yield free
        finally:
            with self._lock:
                self._held -= free
                for content in free:
                    self._unlock(content)

    def close(self) -> None:
        """Let go of everything; the next to claim opens the file again."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None

    def _locked(self, content: bytes) -> bool:
        try:
            import fcntl

            if self._opened is None:
                self._opened = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.lockf(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(content))
        except (BlockingIOError, PermissionError):
            # Both are what POSIX allows as the answer "somebody else has it"; without an open file it is about that.
            return self._opened is None
        except (ImportError, OSError):
            return True
        return True

    def _unlock(self, content: bytes) -> None:
        if self._opened is None:
            return
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.lockf(self._opened, fcntl.LOCK_UN, 1, _place(content))


def _place(content: bytes) -> int:
    # 48 bits: two records in the same place only wait for each other, and no system's offsets are that short.
    return int.from_bytes(content[:6], "big")
