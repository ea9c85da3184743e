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


def query_attention(q, k_pages, v_pages, ids, lengths, own_k, own_v, scale, softcap, weights):
    rows, heads, dim = q.shape
    kv_heads, slots = k_pages.shape[1:3]
    q, k_pages, v_pages, own_k, own_v = (x.double() for x in (q, k_pages, v_pages, own_k, own_v))
    out = torch.zeros(rows, heads, dim, dtype=torch.float64)
    lse = torch.zeros(rows, heads, dtype=torch.float64)
    mass = torch.zeros(len(ids) * slots, dtype=torch.float64)
    places = [p * slots + i for p, n in enumerate(lengths.tolist()) for i in range(n)]
    for h in range(heads):
        g = h // (heads // kv_heads)
        past_k = torch.cat(
            [k_pages[i, g, :n] for i, n in zip(ids.tolist(), lengths.tolist(), strict=True)] or [own_k[:0, g]]
        )
        past_v = torch.cat(
            [v_pages[i, g, :n] for i, n in zip(ids.tolist(), lengths.tolist(), strict=True)] or [own_v[:0, g]]
        )
        for r in range(rows):
            s = _logits(q[r, h], torch.cat((past_k, own_k[: r + 1, g])), scale, softcap)
            lse[r, h] = s.logsumexp(0)
            p = (s - lse[r, h]).exp()
            out[r, h] = p @ torch.cat((past_v, own_v[: r + 1, g]))
            mass[places] += p[: len(places)] * weights[r, h].double()
    return out, lse, mass


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
