"""LMDB may be open once per process and must not cross a fork: who opens the same store shares its environment."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from ctxshaper.reading.store.environment import Environment

_open: dict[Path, Environment] = {}
# A finaliser may run inside any of these functions and call another.
_lock = threading.RLock()
_watched = False


def acquire(folder: Path, *, read_only: bool, max_bytes: int | None) -> Environment:
    """The process's environment of a store, with one more user."""
    with _lock:
        _watch_forks()
        shared = _open.get(folder)
        if shared is None:
            shared = _open[folder] = Environment(folder, read_only=read_only, max_bytes=max_bytes)
        elif shared.read_only and not read_only:
            shared.read_only = False
            shared.shut()
        if max_bytes is not None:
            shared.max_bytes = max_bytes
        shared.users += 1
        return shared


def release(shared: Environment, flush: Callable[[Environment], None]) -> None:
    """One user less; the last flushes and closes."""
    with _lock:
        shared.users -= 1
        if shared.users > 0:
            return
        _open.pop(shared.folder, None)
        flush(shared)
        shared.shut()


def _watch_forks() -> None:
    global _watched
    if _watched:
        return
    _watched = True
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


def _before() -> None:
    _lock.acquire()
    for shared in _open.values():
        shared.before_fork()


def _in_parent() -> None:
    for shared in _open.values():
        shared.after_fork_in_parent()
    _lock.release()


def _in_child() -> None:
    for shared in _open.values():
        shared.after_fork_in_child()
    _lock.release()
