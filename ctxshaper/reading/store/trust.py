"""Whether a store's file may be written to: LMDB's writing believes the file, so a damaged one is found first.

Reading a damaged file is safe: liblmdb refuses pages that make no sense, and every record has a checksum. Writing is
not: a wrong list of free pages ends the process by an assertion. So before the first write a file is checked whole,
once for all processes: who has it checked holds a lock that says so. The last to close it writes down its size and
time; a large file that still looks so is not checked again, for that takes half a second a gigabyte.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_HELD = "store.checked"
# A seventh of a second at most.
_ALWAYS_CHECKED = 256 * 2**20


class Trust:
    """That a file's structure was checked, by this process or by one that has it open too.

    Args:
        file: the store's file; the lock lies beside it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = os.open(file.with_name(_HELD), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self.needs_check = self._first() and not self._looks_as_left()
        except BaseException:
            os.close(self._lock)
            raise

    def checked(self) -> None:
        """Say to other processes that the file is sound."""
        _flock(self._lock, alone=False)

    def give_up(self) -> None:
        """Let go without a word about the file."""
        os.close(self._lock)

    def close(self) -> None:
        """Let go after the last write; the last process of all writes down how it left the file."""
        if self._first():
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, self._look(), 0)
        os.close(self._lock)

    def _first(self) -> bool:
        # Nobody else holds it; or another process checks at this moment, and this one waits until it is done.
        if _flock(self._lock, alone=True):
            return True
        _flock(self._lock, alone=False)
        return False

    def _looks_as_left(self) -> bool:
        look = self._look()
        left = os.pread(self._lock, 200, 0)
        return self._file.stat().st_size > _ALWAYS_CHECKED and left == look

    def _look(self) -> bytes:
        found = self._file.stat()
        return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}\n".encode()


def _flock(lock: int, *, alone: bool) -> bool:
    """Lock a file alone, if that is possible at once, or together with others."""
    try:
        import fcntl
    except ImportError:
        # Not POSIX: every process checks for itself.
        return alone
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    return True
