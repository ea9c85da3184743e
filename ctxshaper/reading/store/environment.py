"""One LMDB environment per store and process: resized, reopened and judged while its transactions wait."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import lmdb

from ctxshaper.reading.store.claims import Claims
from ctxshaper.reading.store.files import opening, replace_file
from ctxshaper.reading.store.gate import Gate
from ctxshaper.reading.store.opening import Handle, UnavailableError, open_store
from ctxshaper.reading.store.records import FILE
from ctxshaper.reading.store.tables import DamageError, Tables

T = TypeVar("T")

DEFAULT_BYTES = 16 * 2**30
# Each cure leads to one more attempt; a store that needs more than this many at once is not to be helped.
_ATTEMPTS = 12
_JUDGED_SECONDS = 10.0


class _StaleError(Exception):
    """The environment is closed, or its file was replaced."""


class _UntrustedError(Exception):
    """Nobody has checked the file yet, and it is to be written."""


class Environment:
    """A store's LMDB environment, shared by all who open the store in this process.

    Args:
        folder: where the store lies; it exists.
        read_only: nothing is written.
        max_bytes: the bound on the file; None for the one that the store was made with.
    """

    def __init__(self, folder: Path, *, read_only: bool, max_bytes: int | None) -> None:
        self.folder = folder
        self.read_only = read_only
        self.max_bytes = max_bytes
        self.users = 0
        self.used: set[int] = set()
        self.claims = Claims(folder)
        self._gate = Gate()
        self._handle: Handle | None = None
        self._unusable: tuple[tuple[int, int, int], float, UnavailableError] | None = None

    @property
    def bound(self) -> int:
        """The bytes that the file may grow to."""
        handle = self._handle
        return self.max_bytes or (handle.state.max_bytes if handle else 0) or DEFAULT_BYTES

    @property
    def writable(self) -> bool:
        """Whether the file as it is open now may be written."""
        return not self.read_only and (self._handle is None or self._handle.writable)

    def run(self, work: Callable[[Tables], T], *, write: bool = False) -> T:
        """Do the work in one transaction: all of it or nothing; it may be called more than once.

        Raises:
            UnavailableError: the store cannot be used; says why.
            lmdb.MapFullError: no room is left under the bound.
        """
        judged = False
        for _ in range(_ATTEMPTS):
            try:
                return self._once(work, write)
            except _StaleError:
                self.reopen()
            except _UntrustedError:
                self._check()
            except lmdb.MapResizedError:
                with self._gate.alone():
                    if self._handle is not None:
                        self._handle.env.set_mapsize(0)
            except lmdb.ReadersFullError:
                with self._gate.shared():
                    freed = self._handle.env.reader_check() if self._handle else 0
                if not freed:
                    raise UnavailableError(f"too many processes read the store in {self.folder} at once") from None
            except lmdb.MapFullError:
                if not self._grow(self.bound):
                    raise
            except (lmdb.Error, DamageError) as error:
                # LMDB's own codes are negative; the others are the system's, such as a full disk.
                if judged or (isinstance(error, lmdb.Error) and error.code > 0):
                    raise UnavailableError(f"the store in {self.folder} failed: {error}") from error
                judged = True
                self.reopen(suspect=True)
        raise UnavailableError(f"the store in {self.folder} changes faster than it can be opened")

    def _once(self, work: Callable[[Tables], T], write: bool) -> T:
        with self._gate.shared():
            handle = self._handle
            if handle is None or not handle.current():
                raise _StaleError
            if write and handle.trust is None:
                raise _UntrustedError
            with handle.env.begin(write=write, buffers=True) as txn:
                # While this waited for its turn to write, another process may have replaced the file.
                if write and not handle.current():
                    raise _StaleError
                return work(Tables(txn))

    def reopen(self, *, suspect: bool = False) -> None:
        """Close it and open what the path leads to now, unless another thread just did.

        Raises:
            UnavailableError: it cannot be opened.
        """
        with self._gate.alone():
            if self._handle is not None and self._handle.current() and not suspect:
                return
            self._shut()
            before = self._seen()
            if self._unusable is not None:
                seen, until, error = self._unusable
                # Judged a moment ago, and not changed: judging again costs as much as the file is long.
                if seen == before and time.monotonic() < until:
                    raise error
            try:
                self._handle = handle = open_store(self.folder, read_only=self.read_only, suspect=suspect)
            except UnavailableError as error:
                self._unusable = (before, time.monotonic() + _JUDGED_SECONDS, error)
                raise
            self._unusable = None
            if handle.writable and handle.env.info()["map_size"] > max(self.bound, handle.size):
                # The map is what bounds the file.
                handle.env.set_mapsize(max(self.bound, handle.size))

    def _check(self) -> None:
        with self._gate.alone():
            try:
                if self._handle is not None:
                    self._handle.make_trusted()
                return
            except OSError as error:
                raise UnavailableError(f"the store in {self.folder} cannot be written: {error}") from error
            except (DamageError, lmdb.Error):
                pass
        self.reopen(suspect=True)

    def _seen(self) -> tuple[int, int, int]:
        try:
            found = (self.folder / FILE).stat()
        except OSError:
            return (0, 0, 0)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _grow(self, bound: int) -> bool:
        with self._gate.alone():
            if self._handle is None:
                return True
            size = self._handle.env.info()["map_size"]
            if size >= bound:
                return False
            self._handle.env.set_mapsize(min(2 * size, bound))
            return True

    def make_room(self, by: int) -> bool:
        """Let the map grow past the bound by so much, so that dropping records has pages to work with."""
        return self._grow(self.bound + by)

    def compact(self) -> None:
        """Write the file anew without its free pages. Other processes wait with writing and opening, then reopen.

        Raises:
            UnavailableError: it could not be written; the store is as before.
        """
        fresh = self.folder / f"{FILE}.compact"
        try:
            self.run(lambda _: None)
            # In this order: who opens a store may write to it, and would wait for this one's write to end.
            with self._gate.alone(), opening(self.folder, alone=True):
                handle = self._handle
                if handle is None or not handle.current():
                    return
                # The open write transaction keeps all others from committing into a file about to be replaced.
                with handle.env.begin(write=True) as txn:
                    # Another process may have died over it.
                    fresh.unlink(missing_ok=True)
                    try:
                        if handle.current():
                            handle.env.copy(str(fresh), compact=True)
                            replace_file(self.folder, by=fresh)
                    finally:
                        fresh.unlink(missing_ok=True)
                    txn.abort()
                self._shut()
        except (lmdb.Error, OSError) as error:
            raise UnavailableError(f"the store in {self.folder} could not be compacted: {error}") from error

    def file_bytes(self) -> int:
        """The size of the file now."""
        return self._seen()[1]

    def shut(self) -> None:
        """Close it once nobody is inside; the next use opens it again."""
        with self._gate.alone():
            self._shut()
            self.claims.close()

    def _shut(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def before_fork(self) -> None:
        """Wait until no transaction runs: a fork in the middle of one would leave the child a lock nobody opens."""
        self._gate.close()

    def after_fork_in_parent(self) -> None:
        """Go on as before."""
        self._gate.open()

    def after_fork_in_child(self) -> None:
        """Let go of the parent's environment; the next use opens the child's own."""
        self._gate = Gate()
        self.used = set()
        self.claims.close()
        self.claims = Claims(self.folder)
        if self._handle is not None:
            self._handle.close_in_child()
            self._handle = None

    def __repr__(self) -> str:
        return f"Environment({os.fspath(self.folder)!r})"
