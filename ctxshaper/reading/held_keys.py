"""What one request holds of a `KeyMemory`: its passages' places, and the tables that a kernel reads them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.reading.keys import KeyArena, PassageKeys

if TYPE_CHECKING:
    from ctxshaper.reading.key_memory import KeyMemory


@dataclass(eq=False, slots=True)
class Place:
    """Where a passage lies in an arena.

    Attributes:
        key: the passage's content key.
        start: its first token.
        tokens: how many it has.
        users: requests, and tables kept ready, that need it.
        known: whether later requests find it by its key.
    """

    key: bytes
    start: int
    tokens: int
    users: int = 1
    known: bool = False


@dataclass(eq=False, slots=True)
class Plan:
    """The tables of one set of passages.

    Attributes:
        places: by content key, in the order of the arena.
        ranges: theirs, for the kernels.
        slices: by content key, where a passage's tokens lie among the scores.
        users: requests that use the tables now.
        again: whether a request found them ready.
    """

    places: Mapping[bytes, Place]
    ranges: KeyRanges
    slices: Mapping[bytes, slice]
    users: int = 1
    again: bool = False


class HeldKeys:
    """A request's passages, held until `release`; made by `KeyMemory.hold`. For one thread at a time.

    Attributes:
        arena: the keys that `ranges` points into.
        marks: [capacity] float16 beside them, the injection probe's scores; None where there are none.
    """

    def __init__(
        self,
        memory: KeyMemory,
        name: tuple[bytes, ...],
        *,
        found: Mapping[bytes, Place] | None = None,
        missing: Mapping[bytes, Place] | None = None,
        plan: Plan | None = None,
        arena: KeyArena | None = None,
        marks: Tensor | None = None,
    ) -> None:
        self.arena = memory.arena if arena is None else arena
        self.marks = memory.marks if arena is None else marks
        self._memory, self._name, self._plan = memory, name, plan
        self._apart = arena is not None
        self._shared = plan is not None  # whether the plan holds the places, and not this request
        self._found, self._missing = dict(found or {}), dict(missing or {})
        self._released = False

    @classmethod
    def apart(
        cls, memory: KeyMemory, name: tuple[bytes, ...], found: Mapping[bytes, Place], missing: Mapping[bytes, int]
    ) -> HeldKeys:
        """A request with an arena of its own, what was found copied into it."""
        counts = {key: place.tokens for key, place in found.items()} | dict(missing)
        arena, places, at = memory.new_arena(sum(counts.values())), {}, 0
        marks = memory.new_marks(sum(counts.values()))
        for key, count in counts.items():
            places[key] = Place(key, at, count)
            at += count
        for key, place in found.items():
            here, there = _slice(places[key]), _slice(place)
            arena.keys[:, here] = memory.arena.keys[:, there]
            if arena.scales is not None and memory.arena.scales is not None:
                arena.scales[:, here] = memory.arena.scales[:, there]
            if marks is not None and memory.marks is not None:
                marks[here] = memory.marks[there]
        held = {key: places[key] for key in found}
        left = {key: places[key] for key in missing}
        return cls(memory, name, found=held, missing=left, arena=arena, marks=marks)

    @property
    def missing(self) -> dict[bytes, int]:
        """By content key, the tokens of the passages that must be put before scores can be asked."""
        return {key: place.tokens for key, place in self._missing.items()}

    def put(self, key: bytes, passage: PassageKeys) -> None:
        """Write one missing passage, and remember it.

        Raises:
            InvalidInputError: a key that is not missing, or keys of another size or type.
        """
        self.put_batch([key], passage.keys, passage.scales, passage.marks)

    def put_batch(
        self, names: Sequence[bytes], keys: Tensor, scales: Tensor | None, marks: Tensor | None = None
    ) -> None:
        """Write many missing passages that stand end to end, and remember them.

        Args:
            names: their content keys, in order.
            keys: [slots, T, D] in the memory's type.
            scales: [slots, T] bfloat16, or None for bfloat16 keys.
            marks: [T] float16, or None where the memory keeps none.

        Raises:
            InvalidInputError: a key that is not missing, or keys of another size or type.
        """
        unknown = [name for name in names if name not in self._missing]
        if unknown or len(set(names)) != len(names):
            raise InvalidInputError(f"{len(unknown) or 'some'} of {len(names)} passages are not missing, or put twice.")
        places = [self._missing[name] for name in names]
        total, (slots, _, dim) = sum(place.tokens for place in places), self.arena.keys.shape
        if keys.shape != (slots, total, dim) or keys.dtype != self.arena.keys.dtype:
            raise InvalidInputError(
                f"keys are {keys.dtype} {list(keys.shape)}; needed is {self.arena.keys.dtype} {[slots, total, dim]}."
            )
        if (scales is None) != (self.arena.scales is None) or (scales is not None and scales.shape != (slots, total)):
            raise InvalidInputError(
                f"scales are {scales if scales is None else list(scales.shape)}; int8 keys need {[slots, total]}."
            )
        if (marks is None) != (self.marks is None) or (marks is not None and marks.shape != (total,)):
            raise InvalidInputError(
                f"marks are {marks if marks is None else list(marks.shape)}; this memory keeps "
                f"{'none' if self.marks is None else [total]}."
            )
        at = 0
        for start, length in _runs(places):
            self.arena.keys[:, start : start + length] = keys[:, at : at + length]
            if scales is not None and self.arena.scales is not None:
                self.arena.scales[:, start : start + length] = scales[:, at : at + length]
            if marks is not None and self.marks is not None:
                self.marks[start : start + length] = marks[at : at + length]
            at += length
        self._found |= {name: self._missing.pop(name) for name in names}
        if not self._apart:
            self._memory.remember(places)

    def passage(self, key: bytes) -> PassageKeys:
        """A copy of one passage's keys, for a store."""
        places = self._found if self._plan is None else self._plan.places
        if key not in places or self._released:
            raise InvalidInputError("this passage is not held, or was not put yet.")
        own = _slice(places[key])
        scales = self.arena.scales
        marks = None if self.marks is None else self.marks[own].clone()
        return PassageKeys(self.arena.keys[:, own].clone(), None if scales is None else scales[:, own].clone(), marks)

    def own_marks(self) -> tuple[Tensor, Mapping[bytes, slice]]:
        """[T] float16 scores of the injection probe, and by content key where a passage's are.

        Raises:
            InvalidInputError: the memory keeps none.
        """
        if self.marks is None:
            raise InvalidInputError("these keys have no scores of an injection probe; use a head profile that has one.")
        tables = self._tables()
        return torch.cat([self.marks[_slice(place)] for place in tables.places.values()]), tables.slices

    @property
    def ranges(self) -> KeyRanges:
        """Where the passages lie in `arena`, in the order of the arena; made once for one set of passages."""
        return self._tables().ranges

    @property
    def slices(self) -> Mapping[bytes, slice]:
        """By content key, where a passage's tokens lie among the scores of `ranges`."""
        return self._tables().slices

    def part(self, names: Iterable[bytes]) -> tuple[KeyRanges, Mapping[bytes, slice]]:
        """`ranges` and `slices` of some of the passages, as if they had been held alone.

        Raises:
            InvalidInputError: a passage that is not held.
        """
        known = self._tables().places
        wanted = dict.fromkeys(names)
        if len(wanted) == len(known):
            return self.ranges, self.slices
        if not wanted.keys() <= known.keys():
            raise InvalidInputError("some of these passages are not held; hold them first.")
        plan = _plan([known[name] for name in wanted])
        return plan.ranges, plan.slices

    def release(self) -> None:
        """Let go of the passages; more than once does nothing. Places that were never put are free again."""
        if self._released:
            return
        self._released = True
        if self._shared and self._plan is not None:
            self._memory.leave(self._name, self._plan)
        elif not self._apart:
            self._memory.let_go([*self._found.values(), *self._missing.values()])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _tables(self) -> Plan:
        if self._missing:
            raise InvalidInputError(f"{len(self._missing)} passages are missing; put them first.")
        if self._released:
            raise InvalidInputError("the passages were released; hold them again.")
        if self._plan is None:
            self._plan = _plan(self._found.values())
            self._shared = not self._apart and self._memory.plan(self._name, self._plan)
        return self._plan


def _plan(some: Iterable[Place]) -> Plan:
    places = sorted(some, key=lambda place: place.start)
    table = np.array([(place.start, place.tokens) for place in places], dtype=np.int64).reshape(-1, 2)
    ends = table[:, 1].cumsum()
    bounds = zip((ends - table[:, 1]).tolist(), ends.tolist(), strict=True)
    named = {place.key: place for place in places}
    return Plan(named, KeyRanges(table), {p.key: slice(*bound) for p, bound in zip(places, bounds, strict=True)})


def _slice(place: Place) -> slice:
    return slice(place.start, place.start + place.tokens)


def _runs(places: Iterable[Place]) -> list[tuple[int, int]]:
    """Starts and lengths of places, those that stand end to end as one."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and sum(runs[-1]) == place.start:
            runs[-1] = runs[-1][0], runs[-1][1] + place.tokens
        else:
            runs.append((place.start, place.tokens))
    return runs
