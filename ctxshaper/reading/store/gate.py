"""Many threads inside, or one alone: LMDB may be resized and reopened only while no transaction runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """A lock that many threads share or one holds alone; who waits to be alone goes before newcomers."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._waiting = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Inside together with others. A thread that is inside must not enter again."""
        with self._changed:
            while self._alone or self._waiting:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside with nobody else."""
        self.close()
        try:
            yield
        finally:
            self.open()

    def close(self) -> None:
        """Wait until nobody is inside, and keep everybody out."""
        with self._changed:
            self._waiting += 1
            try:
                while self._inside or self._alone:
                    self._changed.wait()
            finally:
                self._waiting -= 1
            self._alone = True

    def open(self) -> None:
        """Let others in again."""
        with self._changed:
            self._alone = False
            self._changed.notify_all()
