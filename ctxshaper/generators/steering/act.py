"""ACT (Yu et al., Unveiling and Harnessing Hidden Attention Sinks, ICML 2024, arXiv 2406.15765)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxshaper.errors import InvalidInputError
from ctxshaper.generators.steering.base import HeadSteering, Seen

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ACT(HeadSteering):
    """Takes weight from sinks within the prompt, and gives it to the other keys of the row in proportion.

    A key is a sink where the rows from it on give it more than `threshold / n` on average, n the tokens of the prompt.
    The first sink stays as it is, and so does a row that looks at nothing but sinks. Only while the prompt is read.
    Needs no marks.

    Attributes:
        beta: in [0, 1], what a sink keeps of its weight; 1 changes nothing.
        threshold: above 0, how much more than an even share makes a sink.

    Raises:
        InvalidInputError: a value out of range.
    """

    beta: float = 0.4
    threshold: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.beta <= 1 and self.threshold > 0):
            raise InvalidInputError(
                f"beta must lie in [0, 1] and threshold above 0, but got {self.beta!r:.80} and {self.threshold!r:.80}"
            )

    def weights(self, weights: Tensor, seen: Seen) -> Tensor:
        """See the base."""
        # [B, 1, Q, 1]: rows of the prompt; neither padding nor what is written.
        rows = ((seen.own >= 0) & (seen.own < seen.prompt[:, None]))[:, None, :, None]
        if weights.shape[2] == 1:  # a written token is no square map
            return weights
        there = seen.positions[:, None, :]
        later = (seen.prompt[:, None, None] - there).clamp(min=1)
        received = (weights * rows).sum(2) / later
        inside = (there >= 0) & (there < seen.prompt[:, None, None])
        sinks = (received > self.threshold / seen.prompt[:, None, None]) & inside
        others = sinks & (sinks.cumsum(-1) > 1)
        # Keys that take what is freed are no sinks, the first one neither.
        less, more = others[:, :, None, :], ~sinks[:, :, None, :]
        freed = (weights * less).sum(-1, keepdim=True) * (1 - self.beta)
        room = (weights * more).sum(-1, keepdim=True)
        changed = weights * (1 - less * (1 - self.beta)) + weights * more * freed / room.clamp(min=1e-20)
        return changed.where(rows & (room > 1e-12), weights)
