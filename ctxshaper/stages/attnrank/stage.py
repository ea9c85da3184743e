"""AttnRank: the best passage where the generator looks most (arXiv 2508.05128)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.attnrank.profile import PositionProfile, order_of
from ctxshaper.stages.base import Stage
from ctxshaper.stages.run import Run

Preset = Literal["keep", "edges", "best_last"]


@dataclass(frozen=True, kw_only=True)
class AttnRank(Stage):
    """Puts the passages into the order that the generator reads best (Yi et al., arXiv 2508.05128, "AttnRank").

    The rule: slots are sorted by the attention that a shallow layer of the generator pays them whatever they hold
    (a `PositionProfile`, made by `ctxshaper profile`); the passage ranked first goes to the most attended slot, the
    second to the next, and so on. The text of no passage changes. For another number of passages than the profile
    has slots, its curve is stretched or squeezed linearly, first slot on first and last on last.

    Expect about a point of accuracy, and often no gain over putting the best passage last; so, unlike the paper,
    the order is left alone unless the profile holds a gain over it (best first) that is beyond noise.

    Passages are ranked by their place in the context: put stages that rank (or a retriever's best-first order) before
    this one.

    Attributes:
        profile: a `PositionProfile` or the path of one; None to go by the preset.
        preset: the order where there is no profile: "keep", "edges" (best first, second last, and so on inwards:
            Lost in the Middle, arXiv 2307.03172), or "best_last".
        even_if_noise: follow the profile also where its gain is within noise or was not measured.
    """

    profile: PositionProfile | str | Path | None = None
    preset: Preset = "keep"
    even_if_noise: bool = False

    def __post_init__(self) -> None:
        if self.preset not in ("keep", "edges", "best_last"):
            raise InvalidInputError(f"preset must be keep, edges or best_last, but got {self.preset!r}")
        if self.profile is not None and self.preset != "keep":
            raise InvalidInputError(
                f"AttnRank follows a profile or a preset, but got both (preset={self.preset!r}); leave one out"
            )
        # A file that cannot be used is better known now than at the first query.
        _ = self._loaded

    @cached_property
    def _loaded(self) -> PositionProfile | None:
        return PositionProfile.load(self.profile) if isinstance(self.profile, (str, Path)) else self.profile

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        passages, profile, log = context.passages, self._loaded, run.log
        if profile is None:
            log.notes["order"] = self.preset
            return context.with_passages(arrange(passages, PRESETS[self.preset](len(passages))))
        gain = profile.gains.get("best_first")
        log.notes["profile"] = {
            "generator": profile.generator,
            "slots": profile.slots,
            "measure": profile.measure,
            "gain": None if gain is None else gain.gain,
            "p": None if gain is None else gain.p,
            "pays": profile.pays,
        }
        if not profile.pays and not self.even_if_noise:
            why = "was not measured" if gain is None else f"is within noise ({gain.gain:+.3g}, p = {gain.p:.2g})"
            log.notes["order"] = f"left alone: the profile's gain over best first {why}"
            return context
        slots = order_of(profile.for_slots(len(passages))) if passages else ()
        log.notes["order"] = "by the profile"
        log.notes["slot_order"] = slots
        return context.with_passages(arrange(passages, slots))


def arrange(passages: Sequence[Passage], slots: Sequence[int]) -> list[Passage]:
    """The passages with the first in `slots[0]`, the second in `slots[1]`, and so on.

    Args:
        passages: best first.
        slots: a permutation of their indices.
    """
    placed: dict[int, Passage] = dict(zip(slots, passages, strict=True))
    return [placed[slot] for slot in range(len(passages))]


def edges(count: int) -> tuple[int, ...]:
    """The slots of "edges": first, last, second, last but one, and so on inwards."""
    return tuple(rank // 2 if rank % 2 == 0 else count - 1 - rank // 2 for rank in range(count))


def best_last(count: int) -> tuple[int, ...]:
    """The slots of "best_last": last to first."""
    return tuple(reversed(range(count)))


PRESETS: dict[str, Callable[[int], tuple[int, ...]]] = {
    "keep": lambda count: tuple(range(count)),
    "edges": edges,
    "best_last": best_last,
}
