"""What was computed of a text lately: bounded, so that a long-running process does not grow."""

from __future__ import annotations

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Lately(Generic[Key, Value]):
    """Values of the last keys that were asked for. Threads may share it without a lock, and forks carry it.

    Two dicts take turns: when the young one is full it becomes the old one, and what nobody asked for meanwhile goes.
    (Two threads that fill it at once may forget early; they never read a wrong value.)

    Args:
        most: the cost of all values together, about.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._young: dict[Key, Value] = {}
        self._old: dict[Key, Value] = {}
        self._cost = 0

    def get(self, key: Key, cost: int) -> Value | None:
        """The value, or None; `cost` as in `put`."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value, cost)
        return value

    def put(self, key: Key, value: Value, cost: int) -> None:
        """Remember a value; what alone costs more than half of all is not worth it."""
        if 2 * cost > self._most:
            return
        if 2 * (self._cost + cost) > self._most:
            self._old, self._young, self._cost = self._young, {}, 0
        self._young[key] = value
        self._cost += cost
