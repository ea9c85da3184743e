"""Which keys of a model a reader keeps: the heads of a profile's sets, as pairs of query heads and key slots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.profile import HeadProfile

Slot = tuple[int, int]


@dataclass(frozen=True, order=True)
class Pair:
    """A query head that counts, and the key head that it looks at.

    Attributes:
        layer: counted from 0.
        kv_head: key head of that layer; several query heads share one (grouped-query attention).
        head: query head of that layer.
        weight: factor of its attention in the score.
    """

    layer: int
    kv_head: int
    head: int
    weight: float = 1.0


@dataclass(frozen=True)
class HeadSet:
    """The heads that answer one kind of question about passages.

    Attributes:
        name: "evidence", "gem", or a further set of the profile.
        pairs: sorted by layer, key head and query head; each head once.
    """

    name: str
    pairs: tuple[Pair, ...]

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The distinct (layer, key head), sorted: what must be remembered of a passage."""
        return slots_of([self])

    @property
    def last(self) -> int:
        """The last layer that is read."""
        return self.pairs[-1].layer


def slots_of(sets: Iterable[HeadSet]) -> tuple[Slot, ...]:
    """The distinct (layer, key head) of several sets, sorted."""
    return tuple(sorted({(pair.layer, pair.kv_head) for one in sets for pair in one.pairs}))


def head_set(profile: HeadProfile, name: str, heads: int, kv_heads: int) -> HeadSet:
    """A set of a profile by its name.

    Args:
        profile: names the heads.
        name: "evidence" for the profile's `heads`, "gem" for all heads of its filter layer, or one of its `sets`.
        heads: query heads of a layer.
        kv_heads: key heads of a layer.

    Raises:
        InvalidInputError: the profile has no such set.
    """
    weights: dict[tuple[int, int], float] = {}
    if name == "gem":
        weights = {(profile.filter_layer, head): 1.0 for head in range(heads)}
    else:
        for head in profile.heads_of(name):
            weights[head.layer, head.head] = weights.get((head.layer, head.head), 0.0) + head.weight
    if not weights:
        raise InvalidInputError(f"the set {name!r} of the head profile of {profile.model!r} holds no heads")
    group = heads // kv_heads
    return HeadSet(name, tuple(sorted(Pair(layer, head // group, head, w) for (layer, head), w in weights.items())))
