"""What the operations mean, in float64 and plain loops: the yardstick of the torch references."""

import torch
from torch import Tensor


def error(got: Tensor, expected: Tensor) -> float:
    """‖got - expected‖ / ‖expected‖, absolute where that is 0; infinite when anything is NaN."""
    got, expected = got.double().cpu(), expected.double().cpu()
    distance = (got - expected).norm().item()
    norm = expected.norm().item()
    value = distance / norm if norm else distance
    return value if value == value else float("inf")


def _logits(q: Tensor, k: Tensor, scale: float, softcap: float | None) -> Tensor:
    s = k @ q * scale
    return s if softcap is None else softcap * torch.tanh(s / softcap)


def passage_attention(q, k, v, cu, prefix_k, prefix_v, scale, softcap):
    heads, tokens, dim = q.shape
    group = heads // k.shape[0]
    q, k, v, prefix_k, prefix_v = (x.double() for x in (q, k, v, prefix_k, prefix_v))
    out = torch.zeros(tokens, heads, dim, dtype=torch.float64)
    for t in range(tokens):
        start = max(c for c in cu.tolist() if c <= t)
        for h in range(heads):
            g = h // group
            s = _logits(q[h, t], torch.cat((prefix_k[g], k[g, start : t + 1])), scale, softcap)
            out[t, h] = s.softmax(0) @ torch.cat((prefix_v[g], v[g, start : t + 1]))
    return out


def gem_scores(q: Tensor, keys: Tensor) -> Tensor:
    """Scores of keys [KV, T, D] that stand without gaps."""
    heads, kv_heads = q.shape[1], keys.shape[0]
    wide = keys.double().repeat_interleave(heads // kv_heads, 0)
    raw = torch.einsum("htd,hd->t", wide, q[-1].double())
    padded = torch.cat((torch.zeros(2), raw, torch.zeros(2)))
    return torch.stack([padded[t : t + 5].sum() / 5 for t in range(len(raw))]) if len(raw) else raw
