"""What questions attend to while passages are read: every head of every layer, summed up by group of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctxshaper.kernels import passage_attention
from ctxshaper.models.attention import LayersRead
from ctxshaper.reading.attention import Prefix


@dataclass(frozen=True, eq=False)
class Asked:
    """A question after its own pass.

    Attributes:
        rows: [L, H, R, D] its tokens at every head, after rotary embedding.
        rest: [L, H, R] log-sum-exp of what the prefix and the question itself take of the softmax.
        shares: [V, R] ways in which its tokens count; each sums to 1.
    """

    rows: Tensor
    rest: Tensor
    shares: Tensor


@dataclass(frozen=True, eq=False)
class Groups:
    """Which tokens of the passages are counted together.

    Attributes:
        of: [T] the group of each token.
        shares: [T] how much of each token counts: less than 1 where windows overlap.
        count: number of groups, G.
    """

    of: Tensor
    shares: Tensor
    count: int


@dataclass
class ReadHeads:
    """Reads passages, each by itself behind the prefix, and at every layer holds questions' rows against their keys.

    A layer's attention is summed up at once, so that no layer's keys outlive it.

    Attributes:
        offsets: [N + 1] int32 where each passage starts.
        last: the last layer.
        prefix: keys and values of the prefix, by layer.
        questions: what is asked.
        groups: which tokens are counted together.
        mass: by question and layer, [V, H, G] float32; filled by the reading.
    """

    offsets: Tensor
    last: int
    prefix: Prefix
    questions: Sequence[Asked]
    groups: Groups
    mass: list[list[Tensor]] = field(default_factory=list)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        self.mass = self.mass or [[] for _ in self.questions]
        for question, found in zip(self.questions, self.mass, strict=True):
            found.append(self._sums(question, layer, k.float(), scale, softcap))
        if layer == self.last:
            raise LayersRead
        return passage_attention(q, k, v, self.offsets, *self.prefix[layer], scale=scale, softcap=softcap)

    def _sums(self, question: Asked, layer: int, keys: Tensor, scale: float, softcap: float | None) -> Tensor:
        heads, rows, dim = question.rows[layer].shape
        # Query heads of one key head lie next to each other.
        own = question.rows[layer].float().reshape(keys.shape[0], -1, dim)
        logits = (own @ keys.transpose(1, 2) * scale).reshape(heads, rows, -1)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        # One softmax over prefix, passages and the question's own tokens.
        whole = torch.logaddexp(question.rest[layer], logits.logsumexp(-1))
        weights = (logits - whole[..., None]).exp_().mul_(self.groups.shares)
        received = torch.einsum("vr,hrt->tvh", question.shares, weights)
        sums = torch.zeros(self.groups.count, *received.shape[1:], device=keys.device)
        return sums.index_add_(0, self.groups.of, received).permute(1, 2, 0)
