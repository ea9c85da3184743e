"""What a session remembers of the chats that it has seen: bounded, the first value stands, the longest unused goes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """Values by name, up to a cost of all together. Threads may share it, and agree on the value of a name.

    Args:
        most: the cost of all values together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[str, tuple[Value, int]] = OrderedDict()
        self._cost = 0
        self._lock = threading.Lock()

    def get(self, name: str) -> Value | None:
        """The value, which counts as used now; None where it is not known."""
        with self._lock:
            if name not in self._values:
                return None
            self._values.move_to_end(name)
            return self._values[name][0]

    def first(self, name: str, value: Value, cost: int) -> Value:
        """Remember a value where none is known; the one that stands."""
        with self._lock:
            if name in self._values:
                self._values.move_to_end(name)
                return self._values[name][0]
            if cost <= self._most:
                self._values[name] = value, cost
                self._cost += cost
            while self._cost > self._most:
                _, (_, freed) = self._values.popitem(last=False)
                self._cost -= freed
            return value
