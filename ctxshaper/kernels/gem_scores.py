"""GemFilter's raw-logit rule (arXiv 2409.17422, section 3)."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def gem_scores(q: Tensor, k: Tensor, *, pool: int = 5) -> Tensor:
    """Sum over heads of the raw logits of one query row, average-pooled over neighbouring tokens.

    No 1/sqrt(d) and no softmax. The heads of a KV group are summed before the product: one product per KV head.

    Args:
        q: [1, H, D] the last prompt token's queries after rotary embedding.
        k: [KV, T, D] keys after rotary embedding.
        pool: width of the average pool, odd; zero padding is counted. 1 leaves the scores as they are.

    Returns:
        [T] float32.
    """
    kv_heads, _, dim = k.shape
    grouped = q.float().reshape(kv_heads, -1, dim).sum(1)
    scores = (k.float() @ grouped[:, :, None]).sum(0)[:, 0]
    if pool == 1:
        return scores
    return F.avg_pool1d(scores[None, None], pool, stride=1, padding=pool // 2)[0, 0]
