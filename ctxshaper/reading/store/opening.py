"""Opening a store's file: judged first, and set aside where it is damaged.

LMDB maps its file into memory and believes it. The liblmdb inside py-lmdb's wheels is hardened: a page that makes no
sense is an error, not a crash. What it does not see is a file that ends before the pages it names (reading them is a
bus error); so a file shorter than it says is checked whole, by py-lmdb's checker, which reads it as plain bytes, and
brought to its length.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

import lmdb

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.store.files import identity, opening, put_aside
from ctxshaper.reading.store.records import FILE, FORMAT, PAGE, State
from ctxshaper.reading.store.tables import DamageError, Tables
from ctxshaper.reading.store.trust import Trust

_log = logging.getLogger(__name__)

_FIRST_MAP = 64 * 2**20
# Threads and processes that read at the same moment; a slot takes 64 bytes of the lock file.
_READERS = 2048
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class UnavailableError(Exception):
    """The store cannot be used now; its caller goes on without it."""


@dataclass
class Handle:
    """An open LMDB environment and the file it was opened on."""

    env: lmdb.Environment
    file: Path
    identity: tuple[int, int]
    size: int
    writable: bool
    state: State
    trust: Trust | None = None

    def current(self) -> bool:
        """Whether the path still leads to this file, and nothing was cut off its end."""
        try:
            now = self.file.stat()
        except OSError:
            return False
        if (now.st_dev, now.st_ino) != self.identity or now.st_size < self.size:
            return False
        self.size = now.st_size
        return True

    def make_trusted(self) -> None:
        """See to it that the file was checked before it is written.

        Raises:
            DamageError: it was, and its structure is damaged.
        """
        if self.trust is not None:
            return
        trust = Trust(self.file)
        try:
            if trust.needs_check:
                _check(self.env, self.file.parent)
            trust.checked()
        except BaseException:
            trust.give_up()
            raise
        self.trust = trust

    def close(self) -> None:
        """Close the environment; no transaction may be running."""
        self.env.close()
        if self.trust is not None:
            self.trust.close()
            self.trust = None

    def close_in_child(self) -> None:
        """Let go of what a fork copied; the parent goes on with it."""
        self.env.close()
        if self.trust is not None:
            self.trust.give_up()
            self.trust = None


def exists(folder: Path) -> bool:
    """Whether a folder holds a store."""
    return (folder / FILE).is_file()


def structure(folder: Path) -> list[str]:
    """What is wrong with the pages of a store's file; empty where nothing is.

    The file is read as plain bytes, so nothing in it can crash. One that is being written to must be kept from
    changing under the check by an open transaction.
    """
    from lmdb.verify import VerifyError, verify

    try:
        return [str(problem) for problem in verify(str(folder / FILE), subdir=False)]  # type: ignore[no-untyped-call]
    except VerifyError as problem:
        return [str(problem)]
    except (OSError, ValueError, OverflowError, MemoryError, IndexError) as problem:
        return [f"{type(problem).__name__}: {problem}"]


def open_store(folder: Path, *, read_only: bool, suspect: bool = False) -> Handle:
    """Open a folder's store, and make it if need be. A damaged one is set aside, and a new one made.

    Args:
        folder: must exist.
        read_only: nothing is made, renamed or written.
        suspect: check the whole structure, whatever it looks like.

    Raises:
        UnavailableError: the file cannot be opened, or is damaged and may not be set aside.
        InvalidInputError: the store was made by another version of ctxshaper.
    """
    for _ in range(3):
        with opening(folder, alone=False):
            before = identity(folder)
            try:
                return _open(folder, read_only, suspect)
            except DamageError as damage:
                why = str(damage)
        if read_only or not os.access(folder, os.W_OK):
            raise UnavailableError(
                f"the store in {folder} is damaged ({why}) and open for reading only: passages are read anew; "
                f"run `ctxshaper store verify --repair {folder}` where it may be written"
            )
        with opening(folder, alone=True):
            # Another process may have been quicker.
            if identity(folder) == before:
                put_aside(folder, why)
    raise UnavailableError(f"the store in {folder} is damaged again and again; is its disk?")


def _open(folder: Path, read_only: bool, suspect: bool) -> Handle:
    file = folder / FILE
    size = file.stat().st_size if file.exists() else 0
    try:
        env, writable = _environment(folder, read_only, max(_FIRST_MAP, 2 * size))
    except lmdb.Error as error:
        problems = structure(folder) if size else []
        if problems:
            raise DamageError(problems[0]) from error
        raise UnavailableError(f"the store in {folder} cannot be opened: {error}") from error
    try:
        short = file.stat().st_size < _needed(env)
        if short or suspect:
            _check(env, folder)
        if short:
            _extend(env, file, writable)
        state = _state(env, folder)
        stat = file.stat()
    except lmdb.Error as error:
        env.close()
        raise DamageError(str(error)) from error
    except BaseException:
        env.close()
        raise
    return Handle(env, file, (stat.st_dev, stat.st_ino), stat.st_size, writable, state)


def _needed(env: lmdb.Environment) -> int:
    return int(env.info()["last_pgno"] + 1) * PAGE


def _extend(env: lmdb.Environment, file: Path, writable: bool) -> None:
    """Bring a file to the length it speaks of: pages behind its end are free, or of values that were cut off.

    The latter then fail their checksum instead of ending the process.
    """
    if not writable:
        raise DamageError("its end is missing")
    # Nobody else writes meanwhile, so the file cannot become shorter by this.
    with env.begin(write=True):
        needed = _needed(env)
        if file.stat().st_size < needed:
            os.truncate(file, needed)


def _check(env: lmdb.Environment, folder: Path) -> None:
    # The open transaction keeps writers of other processes from using the pages of this snapshot again.
    with env.begin(buffers=True):
        problems = structure(folder)
        if problems:
            # A writer may have changed the first pages in mid-read.
            time.sleep(0.05)
            problems = structure(folder)
    if problems:
        raise DamageError(problems[0])


def _state(env: lmdb.Environment, folder: Path) -> State:
    with env.begin(buffers=True) as txn:
        tables = Tables(txn)
        version = tables.format()
        if version is None and env.stat()["entries"]:
            raise DamageError("the store's own description is gone")
        if version not in (None, FORMAT):
            raise InvalidInputError(
                f"the store in {folder} has format {version}, and this version of ctxshaper reads format {FORMAT}: "
                "take another folder, or delete the store; passages are then read anew"
            )
        return tables.state()


def _environment(folder: Path, read_only: bool, map_size: int) -> tuple[lmdb.Environment, bool]:
    """Open as asked, and for reading only where writing is not allowed."""
    if not read_only:
        try:
            return _lmdb(folder, map_size, writable=True, lock=True), True
        except lmdb.Error as error:
            if not _refused(error) or not exists(folder):
                raise
            _log.warning("the store in %s may not be written here: it is read, and nothing new is kept", folder)
    try:
        return _lmdb(folder, map_size, writable=False, lock=True), False
    except lmdb.Error as error:
        if not _refused(error):
            raise
    # Without the lock file LMDB cannot tell writers which pages are being read; a page may then be reused under a
    # reader, which its checksums notice. It is the only way to read from a folder that may not be written at all.
    return _lmdb(folder, map_size, writable=False, lock=False), False


def _lmdb(folder: Path, map_size: int, *, writable: bool, lock: bool) -> lmdb.Environment:
    return lmdb.open(
        str(folder / FILE),
        map_size=-(-map_size // PAGE) * PAGE,
        subdir=False,
        readonly=not writable,
        create=writable,
        lock=lock,
        mode=0o644,
        max_readers=_READERS,
        # The pages are flushed at every commit, the root that names them with the next: a crash of the machine may
        # lose the last write, and damages nothing.
        metasync=False,
    )


def _refused(error: lmdb.Error) -> bool:
    return error.code in _REFUSED
