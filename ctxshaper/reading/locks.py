"""Things that threads share: locks that a forked child finds open, and properties that one thread makes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

_T = TypeVar("_T")


class Renewable(Protocol):
    """Something that a forked child must set right."""

    def renew(self) -> None:
        """Open the locks, and forget threads that the child does not have."""
        ...


def renew_after_fork(thing: Renewable) -> None:
    """Have `thing.renew()` called in every forked child, as long as the thing lives."""
    _things.add(thing)


class ForkSafeLock:
    """A lock for `with`, open again in a forked child.

    A child has one thread, the one that forked; a lock that another thread held at that moment would stay shut there
    for ever. What these locks guard (caches, counters) is at worst one entry out of date then, and reads right.

    Args:
        reentrant: whether the thread that holds it may take it again.
    """

    def __init__(self, *, reentrant: bool = False) -> None:
        self._make: Any = threading.RLock if reentrant else threading.Lock
        self.renew()
        renew_after_fork(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Open, whoever held it."""
        self._lock = self._make()


class once(Generic[_T]):  # noqa: N801  # used as a decorator
    """A property that one thread makes, under the instance's `_lock`, while others wait; kept from then on.

    (`functools.cached_property` of Python 3.11 holds a lock of its own, which a fork may leave shut.)
    """

    def __init__(self, make: Callable[[Any], _T]) -> None:
        self._make = make
        self._name = make.__name__
        self.__doc__ = make.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> _T:
        if instance is None:
            return self  # type: ignore[return-value]
        with instance._lock:
            if self._name not in instance.__dict__:
                instance.__dict__[self._name] = self._make(instance)
            made: _T = instance.__dict__[self._name]
            return made


_things: weakref.WeakSet[Renewable] = weakref.WeakSet()


def _renew_all() -> None:
    for thing in list(_things):
        thing.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_renew_all)
