"""The keys of passages in memory: bounded in bytes, least recently used first out, one arena for all."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.free_runs import FreeRuns
from ctxshaper.reading.held_keys import HeldKeys, Place, Plan
from ctxshaper.reading.keys import KeyArena

# Requests whose tables are kept ready: a user's next question is mostly about the same passages.
_PLANS = 8


class KeyMemory:
    """Passage keys by content key. Thread-safe; a fork carries what is remembered to the child.

    A request holds its passages while it runs: they are neither evicted nor moved, and passages that do not fit beside
    what others hold (or at all) get memory of their own, which goes with the request. Passages of the last few
    requests count as used just now when room is made.

    On a CPU the arena is reserved at once and takes real memory only where passages are written. On a GPU work that is
    queued on one stream is ordered, so that a place may be written anew after its release; a caller with several
    streams must order them.

    Args:
        max_bytes: what keys and scales may take; 0 remembers nothing.
        slots: distinct (layer, KV head) pairs that are kept.
        dim: D, the dimension of a head.
        dtype: int8, or bfloat16 for keys that are not rounded.
        device: where the keys live.
        marked: whether each token has a score of the injection probe beside its keys.

    Raises:
        InvalidInputError: a size out of range, another type, or an arena that cannot be allocated.
    """

    def __init__(
        self,
        max_bytes: int,
        slots: int,
        dim: int,
        *,
        dtype: torch.dtype = torch.int8,
        device: torch.device | str = "cpu",
        marked: bool = False,
    ) -> None:
        if max_bytes < 0 or slots < 1 or dim < 1 or dtype not in (torch.int8, torch.bfloat16):
            raise InvalidInputError(
                f"a memory of {max_bytes} bytes, {slots} slots of {dim} as {dtype}; needed are at least 0, 1 and 1, "
                f"and int8 or bfloat16."
            )
        self.max_bytes, self.slots, self.dim, self.dtype = max_bytes, slots, dim, dtype
        self.device = torch.device(device)
        self.marked = marked
        self.token_bytes = slots * (dim + 2 if dtype == torch.int8 else 2 * dim) + 2 * marked
        self.capacity = max_bytes // self.token_bytes
        self.arena = self.new_arena(self.capacity)
        self.marks = self.new_marks(self.capacity)
        self._free = FreeRuns(self.capacity)
        self._places: OrderedDict[bytes, Place] = OrderedDict()  # least recently used first
        self._plans: OrderedDict[tuple[bytes, ...], Plan] = OrderedDict()
        self._lock = threading.Lock()
        _MEMORIES.add(self)

    def hold(self, tokens: Mapping[bytes, int]) -> HeldKeys:
        """Hold passages for a request, and reserve places for those that are not remembered.

        Args:
            tokens: by content key, how many tokens a passage has; the order of one set of passages should always be
                the same (sorted, say): its tables are then made once.

        Returns:
            What is held, to be released by the caller (it is a context manager); its `missing` must be put first.
        """
        name = tuple(tokens)
        with self._lock:
            plan = self._plans.get(name)
            if plan is not None:
                self._plans.move_to_end(name)
                plan.users += 1
                plan.again = True
                return HeldKeys(self, name, plan=plan)
            found, missing = {}, {}
            for key, count in tokens.items():
                place = self._places.get(key)
                if place is None or place.tokens != count:
                    missing[key] = count
                else:
                    self._places.move_to_end(key)
                    place.users += 1
                    found[key] = place
            starts = self._make_room(list(missing.values()))
            if starts is not None:
                reserved = {
                    key: Place(key, start, count) for (key, count), start in zip(missing.items(), starts, strict=True)
                }
                return HeldKeys(self, name, found=found, missing=reserved)
        try:
            return HeldKeys.apart(self, name, found, missing)
        finally:
            self.let_go(found.values())

    def new_arena(self, capacity: int) -> KeyArena:
        """An arena of this memory's kind."""
        try:
            keys = torch.empty(self.slots, capacity, self.dim, dtype=self.dtype, device=self.device)
            scales = torch.empty(self.slots, capacity, dtype=torch.bfloat16, device=self.device)
        except RuntimeError as error:  # torch's only error for a failed allocation
            raise InvalidInputError(
                f"{capacity * self.token_bytes:,} bytes for keys cannot be allocated on {self.device}: {error}. Ask "
                f"for fewer with cache_bytes, or send fewer passages."
            ) from error
        return KeyArena(keys, scales if self.dtype == torch.int8 else None)

    def new_marks(self, capacity: int) -> torch.Tensor | None:
        """[capacity] float16 scores beside an arena; None where tokens have none."""
        return torch.empty(capacity, dtype=torch.float16, device=self.device) if self.marked else None

    def remember(self, written: Sequence[Place]) -> None:
        """Make places that were written known to all requests; where another was faster, one stays its writer's own."""
        with self._lock:
            for place in written:
                if place.key not in self._places:
                    place.known = True
                    self._places[place.key] = place

    def plan(self, name: tuple[bytes, ...], plan: Plan) -> bool:
        """Keep a request's tables for its next query; whether they are kept (and its holds with them)."""
        with self._lock:
            if name in self._plans or not all(place.known for place in plan.places.values()):
                return False
            self._plans[name] = plan
            while len(self._plans) > _PLANS:
                self._drop(next(iter(self._plans)))
            return True

    def let_go(self, places: Iterable[Place]) -> None:
        """Release places that were held or reserved."""
        with self._lock:
            self._let_go(places)

    def leave(self, name: tuple[bytes, ...], plan: Plan) -> None:
        """End one request's use of a plan."""
        with self._lock:
            plan.users -= 1
            if not plan.users and self._plans.get(name) is not plan:
                self._let_go(plan.places.values())

    def clear(self) -> None:
        """Forget everything; what is held stays until released."""
        with self._lock:
            for name in list(self._plans):
                self._drop(name)
            for place in self._places.values():
                place.known = False
                if not place.users:
                    self._free.give(place.start, place.tokens)
            self._places.clear()

    @property
    def nbytes(self) -> int:
        """Bytes that passages take now, remembered or held."""
        return (self.capacity - self._free.free) * self.token_bytes

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def _make_room(self, lengths: list[int]) -> list[int] | None:
        starts, needed = self._free.take(lengths), sum(lengths)
        if starts is not None:
            return starts
        for name in [name for name, plan in self._plans.items() if not plan.users]:
            self._drop(name)
        idle = [place for place in self._places.values() if not place.users]
        if self._free.free + sum(place.tokens for place in idle) < needed:
            return None  # others hold too much; nobody is evicted in vain
        freed = self._free.free
        for place in idle:
            del self._places[place.key]
            place.known = False
            self._free.give(place.start, place.tokens)
            freed += place.tokens
            if freed >= needed:
                starts = self._free.take(lengths)
                if starts is not None:
                    return starts
                freed = 0  # enough, but in pieces: free as much again
        return self._free.take(lengths)

    def _drop(self, name: tuple[bytes, ...]) -> None:
        """Forget a plan; passages that later requests asked through it have been used since they were put."""
        plan = self._plans.pop(name)
        if plan.again:
            for place in plan.places.values():
                if place.known:
                    self._places.move_to_end(place.key)
        if not plan.users:
            self._let_go(plan.places.values())

    def _let_go(self, places: Iterable[Place]) -> None:
        for place in places:
            place.users -= 1
            if not place.users and not place.known:
                self._free.give(place.start, place.tokens)


_MEMORIES: weakref.WeakSet[KeyMemory] = weakref.WeakSet()
_locked: list[threading.Lock] = []


def _before_fork() -> None:
    # A lock that another thread holds at a fork would stay locked in the child for ever, its data half changed.
    for memory in list(_MEMORIES):
        memory._lock.acquire()
        _locked.append(memory._lock)


def _after_fork() -> None:
    while _locked:
        _locked.pop().release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
