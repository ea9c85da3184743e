"""The base of all methods that steer: plain attention with a place for a method at each of its steps."""

# ruff: noqa: ARG002  # the base's own steps change nothing, whatever they are told

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ctxshaper.errors import InvalidInputError
from ctxshaper.generators.steering.profile import SteeringProfile

if TYPE_CHECKING:
    from torch import Tensor

    from ctxshaper.models.steered import Batch


@dataclass(frozen=True)
class Seen:
    """What one layer's attention looks at, for the rows of a batch.

    Attributes:
        marked: [B, K] which keys are marked.
        positions: [B, K] the position of each key, from 0; negative where a row is padded.
        own: [B, Q] the position of each query.
        prompt: [B] how many tokens each prompt has: a query or key at an earlier position belongs to it.
    """

    marked: Tensor
    positions: Tensor
    own: Tensor
    prompt: Tensor

    @classmethod
    def of(cls, batch: Batch, queries: int, keys: int) -> Seen:
        """What so many queries and keys of a batch are: the last ones of its columns."""
        import torch

        columns = torch.arange(batch.columns - keys, batch.columns, device=batch.starts.device)
        positions = columns[None] - batch.starts[:, None]
        # What is written stands behind the prompt's columns, and is never marked.
        known = columns.clamp(max=batch.marked.shape[1] - 1)
        marked = batch.marked[:, known] & (columns < batch.marked.shape[1])
        return cls(marked, positions, positions[:, keys - queries :], batch.ends - batch.starts)


class Steering(ABC):
    """Changes a local generator's attention while it writes. A method overrides one of the four steps.

    Its formula sees the chosen heads only; layers without one run as they would without steering, to the bit. Steps are
    called in order: `turned`, `queries`, `scores`, `weights`.

    Attributes:
        copies: so many copies of a prompt are read side by side, and their distributions mixed by `mixed`.
        needs_marks: whether a prompt without a marked range is refused.
    """

    copies: int = 1
    needs_marks: ClassVar[bool] = False

    def resolved(self, model: str, layers: int, heads: int) -> Steering:
        """The steering as it runs on a model: with what was calibrated for it, and checked.

        Args:
            model: its name.
            layers: how many it has.
            heads: query heads of each layer.

        Raises:
            InvalidInputError: nothing was calibrated for this model, or for another one.
        """
        return self

    @abstractmethod
    def chosen(self, layer: int, heads: int) -> Sequence[int]:
        """The query heads of a layer that are steered; it has so many."""

    def turned(self, module: Any, q: Tensor, k: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Queries [B, H, Q, D] and keys [B, KV, K, D] of the layer, turned to other positions or bases."""
        return q, k

    def queries(self, layer: int, q: Tensor) -> Tensor:
        """[B, N, Q, D] queries of the chosen heads, after rotary."""
        return q

    def scores(self, scores: Tensor, seen: Seen) -> Tensor:
        """[B, N, Q, K] scores of the chosen heads before the softmax, scaled, later keys not yet masked."""
        return scores

    def weights(self, weights: Tensor, seen: Seen) -> Tensor:
        """[B, N, Q, K] attention weights of the chosen heads; each row sums to 1 before and after."""
        return weights

    def mixed(self, logprobs: Tensor) -> Tensor:
        """[..., V] natural log-probabilities of the mixture of [copies, ..., V]."""
        return logprobs[0]

    def attend(
        self, batch: Batch, module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: dict[str, Any]
    ) -> Tensor | None:
        """See `models.steered.Steering`."""
        import torch

        heads = list(self.chosen(module.layer_idx, q.shape[1]))
        softcap = options.get("softcap")
        if not heads and softcap is None:
            return None
        seen = Seen.of(batch, q.shape[2], k.shape[2])
        q, k = self.turned(module, q.clone(), k, seen)
        group = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(group, 1) for x in (k, v))
        q = _at(q, heads, lambda part: self.queries(module.layer_idx, part))
        scores = (q @ k.transpose(2, 3)).float() * options["scaling"]
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = _at(scores, heads, lambda part: self.scores(part, seen))
        if mask is None:
            mask = seen.positions[:, None, None, :] <= seen.own[:, None, :, None]
        # Not infinity: a row of padding sees nothing, and must not become NaN.
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
        weights = _at(weights, heads, lambda part: self.weights(part, seen))
        return (weights.to(v.dtype) @ v).transpose(1, 2).contiguous()


def _at(whole: Tensor, heads: list[int], change: Callable[[Tensor], Tensor]) -> Tensor:
    """[B, H, ...] with some heads changed."""
    if heads:
        whole[:, heads] = change(whole[:, heads]).to(whole.dtype)
    return whole


@dataclass(frozen=True, kw_only=True)
class HeadSteering(Steering):
    """The base of methods that steer the heads that look at what they are told: the contextual heads.

    Attributes:
        profile: the heads of a model, from `calibrate_heads`; None for those that ship, of the embedded model.
        top: so many heads, those with the highest contextual score.

    Raises:
        InvalidInputError: less than one head.
    """

    profile: SteeringProfile | None = None
    top: int = 20
    _by_layer: dict[int, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.top) is not int or self.top < 1:
            raise InvalidInputError(f"top must be a number of heads from 1, but got {self.top!r:.80}")
        for head in self.profile.heads[: self.top] if self.profile else ():
            self._by_layer.setdefault(head.layer, []).append(head.head)

    def resolved(self, model: str, layers: int, heads: int) -> Self:
        """See the base."""
        profile = self.profile or SteeringProfile.shipped(model)
        profile.check(model, layers, heads)
        return replace(self, profile=profile)

    def chosen(self, layer: int, heads: int) -> Sequence[int]:
        """See the base."""
        if self.profile is None:
            raise InvalidInputError(f"{self!r:.80} has no heads yet; use it as LocalGenerator(steering=...)")
        return self._by_layer.get(layer, ())
