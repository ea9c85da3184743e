"""When a request must stop: its deadline, or that its caller has gone. Long work asks between its steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ctxshaper.errors import DeadlineError, InvalidInputError


class Deadline:
    """The end of one request: a moment, or that it was cancelled.

    Args:
        seconds: from now; None for no end.

    Raises:
        InvalidInputError: seconds that are not above 0.
    """

    def __init__(self, seconds: float | None = None) -> None:
        if seconds is not None and not seconds > 0:
            raise InvalidInputError(f"timeout must be above 0 seconds, but got {seconds}; leave it out for no limit")
        self.seconds = seconds
        self.end = None if seconds is None else time.monotonic() + seconds
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Make every further `check` under this deadline raise."""
        self._cancelled.set()

    @property
    def left(self) -> float | None:
        """Seconds that are left, at least 0; None for any number."""
        return None if self.end is None else max(0.0, self.end - time.monotonic())

    def check(self) -> None:
        """Go on, or stop.

        Raises:
            DeadlineError: the time is over, or the request was cancelled.
        """
        if self._cancelled.is_set():
            raise DeadlineError("the request was cancelled by its caller")
        if self.end is not None and time.monotonic() >= self.end:
            raise DeadlineError(f"the deadline of {self.seconds:.3g} seconds has passed; allow more time or send less")


_CURRENT: ContextVar[Deadline | None] = ContextVar("ctxshaper_deadline", default=None)


def current() -> Deadline | None:
    """The deadline under which this code runs, if any."""
    return _CURRENT.get()


def check() -> None:
    """Go on, or stop: `Deadline.check` of the current request; nothing outside of one.

    Raises:
        DeadlineError: the time is over, or the request was cancelled.
    """
    deadline = _CURRENT.get()
    if deadline is not None:
        deadline.check()


@contextmanager
def under(deadline: Deadline | None) -> Iterator[None]:
    """Run a block under a deadline (None: under none)."""
    token = _CURRENT.set(deadline)
    try:
        yield
    finally:
        _CURRENT.reset(token)
