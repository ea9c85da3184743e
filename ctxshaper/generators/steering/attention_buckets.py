"""Attention Buckets (Chen et al., Fortify the Shortest Stave in Attention, arXiv 2312.04455)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import InvalidInputError, UnsupportedModelError
from ctxshaper.generators.steering.base import Seen, Steering

if TYPE_CHECKING:
    from torch import Tensor

# Distances over which troughs are filled, and candidates of bases: up to three times the model's own.
_REACH, _CANDIDATES, _WIDEST = 2048, 41, 3.0


@dataclass(frozen=True, kw_only=True)
class AttentionBuckets(Steering):
    """Reads the prompt in several copies with different rotary bases, and mixes what they would write.

    With one base attention falls and rises with the distance, so that some places are overlooked; the bases are chosen
    so that one's crests lie in the others' troughs. Each copy counts by its confidence, the probability of its
    likeliest token. Costs as much as so many prompts. All heads; needs no marks. Neither the paper's bases nor its
    weighting are known here for sure: both are this project's reading.

    Attributes:
        copies: how many bases, the model's own among them.

    Raises:
        InvalidInputError: fewer than two copies, or so many that bases run out.
    """

    copies: int = 3

    def __post_init__(self) -> None:
        if type(self.copies) is not int or not 2 <= self.copies < _CANDIDATES:
            raise InvalidInputError(f"copies must lie between 2 and {_CANDIDATES - 1}, but got {self.copies!r:.80}")

    def chosen(self, layer: int, heads: int) -> Sequence[int]:  # noqa: ARG002
        """See the base."""
        return range(heads)

    def turned(self, module: Any, q: Tensor, k: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """See the base: rotation by one base goes on to rotation by another."""
        import torch

        own, width = _base_of(module.config), q.shape[-1]
        powers = torch.arange(0, width, 2, device=q.device, dtype=torch.float32) / width
        bases = torch.tensor(interlocking(own, width, self.copies), device=q.device)
        # [copies, D / 2] radians a position, and the rows of one copy next to each other.
        more = (bases[:, None] ** -powers - own**-powers).repeat_interleave(len(q) // self.copies, 0)
        return _rotated(q, seen.own, more), _rotated(k, seen.positions, more)

    def mixed(self, logprobs: Tensor) -> Tensor:
        """See the base."""
        sure = logprobs.amax(-1, keepdim=True)
        return (logprobs + sure - sure.logsumexp(0, keepdim=True)).logsumexp(0)


@lru_cache
def interlocking(own: float, width: int, count: int) -> tuple[float, ...]:
    """Bases whose troughs interlock: the model's own, then each time the one that fills what the others leave.

    What is filled is the score of two equal vectors by their distance, sum of cos(distance * frequency) over the
    frequencies: of all distances, the highest score of any base counts.

    Args:
        own: the model's base.
        width: of a head.
        count: how many.
    """
    import numpy as np

    bases = np.linspace(own, own * _WIDEST, _CANDIDATES)
    frequencies = bases[:, None] ** -(np.arange(0, width, 2) / width)
    curves = np.cos(np.arange(_REACH)[None, :, None] * frequencies[:, None, :]).mean(-1)
    chosen = [0]
    for _ in range(count - 1):
        filled = np.maximum(curves, curves[chosen].max(0)).mean(1)
        filled[chosen] = -np.inf
        chosen.append(int(filled.argmax()))
    return tuple(float(bases[i]) for i in chosen)


def _base_of(config: Any) -> float:
    rope = getattr(config, "rope_parameters", None) or {}
    partial = rope.get("partial_rotary_factor") or getattr(config, "partial_rotary_factor", None) or 1.0
    if rope.get("rope_type") != "default" or "rope_theta" not in rope or partial != 1.0:
        raise UnsupportedModelError(
            f"{config.model_type} has rotary positions of another kind than the plain one with one base "
            f"({rope!r:.120}), which AttentionBuckets changes; use another steering or model"
        )
    return float(rope["rope_theta"])


def _rotated(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """[B, H, T, D] turned on by [B, T] positions times [B, D / 2] radians; halves are pairs, as transformers has it."""
    import torch

    angles = (positions[:, :, None] * frequencies[:, None, :])[:, None]
    first, second = x.float().chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
