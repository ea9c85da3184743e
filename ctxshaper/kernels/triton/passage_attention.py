"""Triton kernel of `ctxshaper.kernels.passage_attention`.

A program takes BLOCK_M neighbouring tokens of the packed sequence, whichever passages they belong to, and walks the
prefix and then the keys from the start of its first token's passage to its last token. A token's own start masks what
lies before it, so that short passages share a tile, nothing is padded, and the host needs to know no length.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ctxshaper.kernels.triton.softmax import logits, softmax_step, unit_of
from ctxshaper.kernels.triton.tuning import Launch, choose, next_power_of_2


@triton.jit
def _attend(
    q_ptr,  # [H, T, D]
    k_ptr,  # [KV, T, D]
    v_ptr,  # [KV, T, D]
    cu_ptr,  # [N + 1]
    pk_ptr,  # [KV, C, D]
    pv_ptr,  # [KV, C, D]
    out_ptr,  # [T, H, D]
    tokens,
    passages,
    scale,
    softcap,
    q_head,
    q_token,
    k_head,
    k_token,
    v_head,
    v_token,
    pk_head,
    pk_token,
    pv_head,
    pv_token,
    C,
    SEARCH: tl.constexpr,
    H: tl.constexpr,
    G: tl.constexpr,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    HAS_CAP: tl.constexpr,
):
    # Heads of a group run side by side, so that they find their keys in L2.
    h, tile = tl.program_id(0), tl.program_id(1)
    head = h // G
    row = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    in_rows = row < tokens
    # The last offset that is not after the row, by bisection: offsets[low] <= row < offsets[high].
    low = tl.zeros([BLOCK_M], tl.int32)
    high = tl.zeros([BLOCK_M], tl.int32) + passages + 1
    for _ in range(SEARCH):
        middle = (low + high) // 2
        before = tl.load(cu_ptr + middle, mask=middle <= passages, other=0) <= row
        narrow = middle > low
        low, high = tl.where(narrow & before, middle, low), tl.where(narrow & (before == 0), middle, high)
    start = tl.load(cu_ptr + low).to(tl.int32)

    d = tl.arange(0, BLOCK_D)
    in_d = d < D
    n = tl.arange(0, BLOCK_N)
    q_at = h.to(tl.int64) * q_head + row.to(tl.int64)[:, None] * q_token + d[None, :]
    q = tl.load(q_ptr + q_at, mask=in_rows[:, None] & in_d[None, :], other=0.0)
    unit = unit_of(scale, HAS_CAP)
    m = tl.full([BLOCK_M], -float("inf"), tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)

    # No pipeline here: the prefix is short, and its buffers would take the room of the ones below.
    for first in tl.range(0, C, BLOCK_C, num_stages=1):
        key = first + tl.arange(0, BLOCK_C)
        valid = key < C
        k_at = head * pk_head + key[:, None] * pk_token + d[None, :]
        k = tl.load(pk_ptr + k_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        s = tl.where(valid[None, :], logits(tl.dot(q, k.T), scale, softcap, HAS_CAP), -float("inf"))
        m, alpha, p, l = softmax_step(s, unit, m, l)
        v_at = head * pv_head + key[:, None] * pv_token + d[None, :]
        v = tl.load(pv_ptr + v_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])

    k_ptr += head.to(tl.int64) * k_head
    v_ptr += head.to(tl.int64) * v_head
    for first in range(tl.min(start, 0), tl.minimum((tile + 1) * BLOCK_M, tokens), BLOCK_N):
        key = first + n
        valid = key < tokens
        k_at = key.to(tl.int64)[:, None] * k_token + d[None, :]
        k = tl.load(k_ptr + k_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        s = logits(tl.dot(q, k.T), scale, softcap, HAS_CAP)
        s = tl.where((key[None, :] >= start[:, None]) & (key[None, :] <= row[:, None]), s, -float("inf"))
        m, alpha, p, l = softmax_step(s, unit, m, l)
        v_at = key.to(tl.int64)[:, None] * v_token + d[None, :]
        v = tl.load(v_ptr + v_at, mask=valid[:, None] & in_d[None, :], other=0.0)
        acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None])

    out = acc / tl.where(l > 0.0, l, 1.0)[:, None]
    out_at = (row.to(tl.int64) * H + h)[:, None] * D + d[None, :]
    tl.store(out_ptr + out_at, out.to(out_ptr.dtype.element_ty), mask=in_rows[:, None] & in_d[None, :])


# Best first (on an H200, see docs/gpu_log.md).
_ATTEND = (Launch(32, 4, 3, rows=64), Launch(64, 4, 3, rows=64), Launch(64, 8, 3), Launch(32, 4, 2, rows=64))
_WIDE_HEADS = (Launch(32, 4, 2, rows=64), Launch(64, 4, 2, rows=64))


def passage_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    prefix_k: Tensor,
    prefix_v: Tensor,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Launch the kernel; arguments as in `ctxshaper.kernels.passage_attention`, checked there."""
    q, k, v, prefix_k, prefix_v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v, prefix_k, prefix_v))
    heads, tokens, dim = q.shape
    out = torch.empty(tokens, heads, dim, dtype=q.dtype, device=q.device)
    if tokens == 0:
        return out
    passages = cu_seqlens.numel() - 1
    block_d = max(16, next_power_of_2(dim))

    def run(launch: Launch) -> None:
        block_m = min(launch.rows, max(16, next_power_of_2(tokens)))
        _attend[(heads, triton.cdiv(tokens, block_m))](
            q, k, v, cu_seqlens, prefix_k, prefix_v, out, tokens, passages, scale, 0.0 if softcap is None else softcap,
            *q.stride()[:2], *k.stride()[:2], *v.stride()[:2], *prefix_k.stride()[:2], *prefix_v.stride()[:2],
            prefix_k.shape[1], SEARCH=(passages + 1).bit_length() + 1, H=heads, G=heads // k.shape[0], D=dim,
            BLOCK_D=block_d, BLOCK_C=min(64, max(16, next_power_of_2(prefix_k.shape[1]))), BLOCK_M=block_m,
            BLOCK_N=launch.block, HAS_CAP=softcap is not None, **launch.options,
        )  # fmt: skip

    run(
        choose(
            ("passage", q.dtype, q.device, heads, k.shape[0], dim, next_power_of_2(tokens)),
            _ATTEND if block_d <= 128 else _WIDE_HEADS,
            run,
        )
    )
    return out
