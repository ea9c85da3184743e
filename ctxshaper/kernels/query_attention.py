"""Attention of a query's rows over paged passage memories, and the mass that each key token receives.

For head h of row r, with g(h) the KV head that h belongs to, and the keys t of all valid page slots and of the query's
own rows up to r::

    s[r, h, t] = cap(scale * q[r, h] . k[t, g(h)])        cap(x) = softcap * tanh(x / softcap), or x
    lse[r, h]  = log sum_t exp(s[r, h, t])
    out[r, h]  = sum_t exp(s[r, h, t] - lse[r, h]) * v[t, g(h)]
    mass[t]    = sum_{r, h} weight[r, h] * exp(s[r, h, t] - lse[r, h])      over page slots only

Softmax does not care which passage a key belongs to, so a request is only a list of pages.
"""

import math

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.dispatch import Backend, half_precision_reason, head_dim_reason, requested_backend, use_triton

Result = tuple[Tensor | None, Tensor, Tensor | None]


def query_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_ids: Tensor,
    page_lengths: Tensor,
    own_k: Tensor,
    own_v: Tensor,
    *,
    scale: float | None = None,
    softcap: float | None = None,
    mass_weights: Tensor | None = None,
    need_output: bool = True,
    finite: bool = False,
    backend: Backend = "auto",
) -> Result:
    """Attend from a query's rows to all valid page slots and, causally, to the query's own keys.

    Args:
        q: [R, H, D] queries after rotary embedding; H a multiple of KV.
        k_pages: [N, KV, S, D] pool of keys (S slots a page), last dimension contiguous.
        v_pages: [N, KV, S, D] pool of values.
        page_ids: [P] int32 or int64, the pages of this request, each in [0, N).
        page_lengths: [P] int32 or int64, valid slots of each page, each in [0, S]. What lies in the other slots is
            never used, not even when it is NaN.
        own_k: [R, KV, D] the query's own keys.
        own_v: [R, KV, D] the query's own values.
        scale: factor of the logits; None means 1 / sqrt(D).
        softcap: soft cap of the logits, or None.
        mass_weights: [H] or [R, H] float32 weights of the mass, a zero leaves its head or row out; None: no mass.
        need_output: False leaves out the values: only `lse` and the mass are computed.
        finite: the caller's promise that no slot of the pool holds NaN or infinity, valid or not, as `PagedPool` keeps
            it; lets the kernel copy whole tiles in bulk.
        backend: see `ctxshaper.kernels.dispatch`.

    Returns:
        out: [R, H, D] in q's type, or None when not needed.
        lse: [R, H] float32, natural logarithm.
        mass: [P * S] float32, zero in invalid slots; or None when not asked for.

    Raises:
        InvalidInputError: shapes that do not fit together, or a kernel asked for by name that cannot take them.
    """
    _check(q, k_pages, v_pages, page_ids, page_lengths, own_k, own_v)
    weights = row_weights(q, mass_weights)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    reason = half_precision_reason(q, k_pages, v_pages, own_k, own_v) or head_dim_reason(q.shape[-1])
    if use_triton("query_attention", backend, reason, q):
        from ctxshaper.kernels.triton import query_attention as kernel

        return kernel.query_attention(
            q, k_pages, v_pages, page_ids, page_lengths, own_k, own_v, scale, softcap, weights, need_output, finite
        )
    if q.device.type == "cpu" and softcap is None and len(page_ids) == 1 and requested_backend(backend) == "auto":
        held = k_pages[int(page_ids[0])], v_pages[int(page_ids[0])]
        return one_page(q, *held, int(page_lengths[0]), own_k, own_v, scale, weights, need_output)
    return reference(q, k_pages, v_pages, page_ids, page_lengths, own_k, own_v, scale, softcap, weights, need_output)


def one_page(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    length: int,
    own_k: Tensor,
    own_v: Tensor,
    scale: float,
    weights: Tensor | None,
    need_output: bool,
) -> Result:
    """Compute `query_attention` over one page as suits a CPU: a product per KV group, mass for its heads alone.

    Args:
        q: [R, H, D].
        k: [KV, S, D] the page.
        v: [KV, S, D].
        length: valid slots.
        own_k: [R, KV, D].
        own_v: [R, KV, D].
        scale: factor of the logits.
        weights: [R, H] float32, or None.
        need_output: as in `query_attention`.

    Returns:
        As `query_attention`; `lse` is NaN for heads without weight when nothing else needs it.
    """
    rows, heads, dim = q.shape
    kv_heads, kind = k.shape[0], k.dtype
    group = heads // kv_heads
    keys = torch.cat((k[:, :length], own_k.transpose(0, 1).to(kind)), 1)
    hidden = torch.ones(rows, rows, dtype=torch.bool).triu(1)
    out = None
    if need_output:
        # The rows of all heads of a KV group in one product: three times as fast as torch's fused attention in bf16.
        values = torch.cat((v[:, :length], own_v.transpose(0, 1).to(kind)), 1)
        packed = (q.view(rows, kv_heads, group, dim).permute(1, 2, 0, 3).reshape(kv_heads, -1, dim) * scale).to(kind)
        logits = packed @ keys.transpose(1, 2)
        logits[:, :, length:].masked_fill_(hidden.repeat(group, 1), -math.inf)
        attended = logits.softmax(2) @ values
        out = attended.view(kv_heads, group, rows, dim).permute(2, 0, 1, 3).reshape(rows, heads, dim).to(q.dtype)
    lse = q.new_full((rows, heads), math.nan, dtype=torch.float32)
    mass = None
    if weights is not None:
        mass = q.new_zeros(k.shape[1], dtype=torch.float32)
        for head in weights.any(0).nonzero()[:, 0].tolist():
            logits = (q[:, head].float() @ keys[head // group].float().T).mul_(scale)
            logits[:, length:].masked_fill_(hidden, -math.inf)
            lse[:, head] = logits.logsumexp(1)
            probabilities = logits[:, :length].sub_(lse[:, head, None]).exp_()
            mass[:length] += weights[:, head] @ probabilities
    return out, lse, mass


def reference(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    page_ids: Tensor,
    page_lengths: Tensor,
    own_k: Tensor,
    own_v: Tensor,
    scale: float,
    softcap: float | None,
    weights: Tensor | None,
    need_output: bool,
) -> Result:
    """Compute `query_attention` for one request in plain torch; `weights` is [R, H] float32 or None.

    One page is read in place. Several are gathered one KV head at a time, which bounds the copy.
    """
    rows, heads, dim = q.shape
    kv_heads, slots = k_pages.shape[1], k_pages.shape[2]
    group = heads // kv_heads
    ids, lengths = page_ids.tolist(), page_lengths.tolist()
    total = len(ids) * slots
    out = q.new_empty(rows, heads, dim) if need_output else None
    lse = q.new_empty(rows, heads, dtype=torch.float32)
    mass = None if weights is None else q.new_zeros(total, dtype=torch.float32)
    one = len(ids) == 1
    # Valid slots in the order of the request, as positions in its [P * S] slots.
    valid = None if one else (torch.arange(slots, device=q.device) < page_lengths[:, None]).flatten().nonzero()[:, 0]
    hidden = torch.ones(rows, rows, dtype=torch.bool, device=q.device).triu(1).repeat_interleave(group, 0)

    def keys(pages: Tensor, head: int) -> Tensor:  # [T, D]
        if one:
            return pages[ids[0], head, : lengths[0]]
        held = pages[:, head].index_select(0, page_ids.long()).reshape(total, dim)
        return held.index_select(0, valid) if valid is not None else held

    def logits(a: Tensor, b: Tensor) -> Tensor:
        s = (a @ b.T).mul_(scale)
        return s if softcap is None else s.div_(softcap).tanh_().mul_(softcap)

    for head in range(kv_heads):
        of_head = slice(head * group, (head + 1) * group)
        # 16-bit products would round the logits before the softmax; both sides are widened instead.
        packed = q[:, of_head].reshape(rows * group, dim).float()
        past, own = logits(packed, keys(k_pages, head).float()), logits(packed, own_k[:, head].float())
        own.masked_fill_(hidden, -math.inf)
        total_lse = torch.logaddexp(past.logsumexp(1), own.logsumexp(1)) if past.shape[1] else own.logsumexp(1)
        lse[:, of_head] = total_lse.view(rows, group)
        past.sub_(total_lse[:, None]).exp_()
        if out is not None:
            own.sub_(total_lse[:, None]).exp_()
            attended = past @ keys(v_pages, head).float() + own @ own_v[:, head].float()
            out[:, of_head] = attended.view(rows, group, dim).to(q.dtype)
        if mass is not None and weights is not None:
            received = weights[:, of_head].reshape(rows * group) @ past
            if one:
                mass[: lengths[0]] += received
            elif valid is not None:
                mass.index_add_(0, valid, received)
    return out, lse, mass


def row_weights(q: Tensor, mass_weights: Tensor | None) -> Tensor | None:
    """Spread `mass_weights` to one [R, H] float32 tensor, or None when none is given."""
    rows, heads = q.shape[:2]
    if mass_weights is None:
        return None
    if tuple(mass_weights.shape) not in ((heads,), (rows, heads)):
        raise InvalidInputError(
            f"mass_weights is {list(mass_weights.shape)}; allowed are [{heads}] and [{rows}, {heads}]."
        )
    return mass_weights.to(device=q.device, dtype=torch.float32).expand(rows, heads).contiguous()


def _check(q: Tensor, k: Tensor, v: Tensor, ids: Tensor, lengths: Tensor, own_k: Tensor, own_v: Tensor) -> None:
    rows, heads, dim = q.shape
    kv_heads = k.shape[1]
    if k.dim() != 4 or k.shape != v.shape or k.shape[-1] != dim or heads % kv_heads or rows == 0:
        raise InvalidInputError(
            f"q is {list(q.shape)}, k_pages {list(k.shape)}, v_pages {list(v.shape)}; needed are q [R, H, D] with "
            f"R >= 1 and two pools [N, KV, S, D] of the same D, H a multiple of KV."
        )
    if list(own_k.shape) != [rows, kv_heads, dim] or own_k.shape != own_v.shape:
        raise InvalidInputError(
            f"own_k is {list(own_k.shape)} and own_v {list(own_v.shape)}; needed is [{rows}, {kv_heads}, {dim}]."
        )
    if ids.dim() != 1 or ids.shape != lengths.shape:
        raise InvalidInputError(
            f"page_ids is {list(ids.shape)} and page_lengths {list(lengths.shape)}; both must be [P]."
        )
