"""The fit of focus directions: what to add to a head's queries so that it looks at passages that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Of Focus Directions' code (arXiv 2503.23306): ten epochs of AdamW.
_EPOCHS, _RATE = 10, 1e-3


@dataclass(frozen=True, eq=False)
class Looking:
    """What the tokens of one answer look with, and at, in some heads.

    Attributes:
        q: [N, R, D] queries of the last R tokens after rotary, float32.
        k: [N, T, D] keys of all tokens.
        gold: [T] bool, which of them lie in passages that answer.
    """

    q: Tensor
    k: Tensor
    gold: Tensor

    def mass(self, pushed: Tensor) -> Tensor:
        """[N] share of the attention on gold when [N, D] is added to the queries."""
        return gold_mass(self.q + pushed[:, None], self.k, self.gold, self.q.shape[-1] ** -0.5)


def gold_mass(q: Tensor, k: Tensor, gold: Tensor, scale: float, softcap: float | None = None) -> Tensor:
    """[H] share of the attention of the last rows on gold tokens, mean over rows.

    Args:
        q: [H, R, D] queries of the last R tokens.
        k: [H, T, D] keys of all.
        gold: [T] bool.
        scale: of the scores.
        softcap: of the scores, if any.
    """
    rows, tokens = q.shape[1], k.shape[1]
    scores = q @ k.transpose(1, 2) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    places = torch.arange(tokens, device=q.device)
    later = places > places[tokens - rows :, None]
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    return (weights * gold).sum(-1).mean(-1)


def fit_directions(cases: Sequence[Looking]) -> tuple[Tensor, tuple[float, float]]:
    """[N, D] directions that raise the attention on gold, each head's fitted alone on the loss -mean gold mass.

    Args:
        cases: answers; at least one.

    Returns:
        The directions; and the mean gold mass of these cases without and with them.
    """
    # What was read under inference has no gradient.
    with torch.inference_mode(False), torch.enable_grad():
        plain = [Looking(case.q.clone(), case.k.clone(), case.gold.clone()) for case in cases]
        heads, _, width = plain[0].q.shape
        pushed = torch.zeros(heads, width, device=plain[0].q.device, requires_grad=True)
        # AdamW scales each number by itself, so heads that share an optimizer do not share a fit.
        optimizer = torch.optim.AdamW([pushed], lr=_RATE)
        for _ in range(_EPOCHS):
            for case in plain:
                optimizer.zero_grad()
                torch.autograd.backward([-case.mass(pushed).sum()])
                optimizer.step()
        found = pushed.detach()
        before, after = (sum(float(c.mass(d).mean()) for c in plain) / len(plain) for d in (0 * found, found))
    return found.cpu(), (before, after)
