"""The kernels on one NVIDIA GPU: milliseconds, the floor of this GPU, and plain torch beside.

Llama-3.1-8B shape: 32 heads and 8 KV heads of 128; passages of 256 tokens, a query of 32 rows. The floor is what must
move at the rate of a large copy, or what must be multiplied at the rate of a large product, whichever takes longer.
Each kernel is first compared with its reference; where they differ, the benchmark ends without a figure.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.device import Ceilings, ceilings, events, in_graph, needed, relative
from benchmarks.table import Table
from ctxshaper.kernels import gem_scores, passage_attention
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.kernels.key_scores import key_scores

HEADS, KV_HEADS, DIM, ROWS, PASSAGE = 32, 8, 128, 32, 256
_SLOTS = 4  # (layer, KV head) pairs whose keys are kept
Figures = dict[str, dict[str, float]]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--tokens", nargs="+", type=int, default=[131_072, 32_768, 8_192])


def run(arguments: argparse.Namespace) -> list[Table]:
    """One row for each kernel and number of tokens."""
    needed()
    torch.manual_seed(0)
    rows: Figures = {}
    with torch.inference_mode():
        known = ceilings()
        for tokens in arguments.tokens:
            for measure in (_keys, _gem, _prefill):
                rows |= measure(tokens, known)
                torch.cuda.empty_cache()
    return [Table("one call", rows, [str(known)])]


def _row(name: str, tokens: int, call: Callable[[], object], floor: float, plain: Callable[[], object]) -> Figures:
    figure = in_graph(call)
    figures = {"ms": figure, "floor, ms": floor, "x floor": figure / floor, "plain torch, ms": events(plain, 5, 1)}
    return {f"{name}, {tokens:,} tokens": figures}


def _check(name: str, got: Tensor, expected: Tensor, bound: float) -> None:
    error = relative(got, expected)
    if error > bound:
        sys.exit(f"{name} differs from its reference by {error:.1e}, more than {bound:.0e}: no speed is reported")


def _keys(tokens: int, known: Ceilings) -> Figures:
    """Scores of int8 keys: read twice, once for the log-sum-exp and once for the mass."""
    keys = torch.randint(-127, 128, (_SLOTS, tokens, DIM), device="cuda", dtype=torch.int8)
    scales = torch.rand(_SLOTS, tokens, device="cuda", dtype=torch.bfloat16) / 64
    rows = torch.randn(_SLOTS, ROWS, DIM, device="cuda", dtype=torch.bfloat16)
    starts = np.arange(0, tokens, PASSAGE)
    ranges = KeyRanges(np.stack([np.random.default_rng(0).permutation(starts), np.full_like(starts, PASSAGE)], 1))
    rest, weights = torch.zeros(_SLOTS, ROWS, device="cuda"), torch.ones(_SLOTS, ROWS, device="cuda")
    asked = partial(key_scores, rows, range(_SLOTS), keys, scales, ranges, rest, weights, scale=1 / math.sqrt(DIM))
    (got, lse), (expected, expected_lse) = asked(backend="triton"), asked(backend="torch")
    _check("key_scores", got, expected, 2e-2)
    _check("key_scores' log-sum-exp", lse, expected_lse, 1e-4)

    def plain() -> Tensor:
        logits = rows.float() @ (keys * scales[..., None].float()).transpose(1, 2) / math.sqrt(DIM)
        return logits.softmax(-1).sum((0, 1))

    moved = 2 * (keys.nbytes + scales.nbytes) / (known.copy)
    work = partial(asked, backend="triton")
    return _row(f"key_scores, int8, {_SLOTS} slots", tokens, work, moved, plain)


def _gem(tokens: int, known: Ceilings) -> Figures:
    """GemFilter's scores of dense keys."""
    keys = torch.randn(KV_HEADS, tokens, DIM, device="cuda", dtype=torch.bfloat16)
    rows = torch.randn(ROWS, HEADS, DIM, device="cuda", dtype=torch.bfloat16)
    _check("gem_scores", gem_scores(rows, keys, backend="triton"), gem_scores(rows, keys, backend="torch"), 1e-5)

    def plain() -> Tensor:
        wide = keys.repeat_interleave(HEADS // KV_HEADS, 0)
        raw = (rows[-1][:, None] @ wide.transpose(1, 2)).sum(0)
        return torch.nn.functional.avg_pool1d(raw, 5, 1, 2)

    work = partial(gem_scores, rows, keys, backend="triton")
    return _row("gem_scores, one layer", tokens, work, keys.nbytes / known.copy, plain)


def _prefill(tokens: int, known: Ceilings) -> Figures:
    """Attention of passages read by themselves, 8,192 tokens at once."""
    tokens = min(tokens, 8192)
    q, k, v = (torch.randn(n, tokens, DIM, device="cuda", dtype=torch.bfloat16) for n in (HEADS, KV_HEADS, KV_HEADS))
    offsets = torch.arange(0, tokens + 1, PASSAGE, device="cuda", dtype=torch.int32)
    asked = partial(passage_attention, q, k, v, offsets)
    few = partial(passage_attention, q[:, :2048], k[:, :2048], v[:, :2048], offsets[: 2048 // PASSAGE + 1])
    _check("passage_attention", few(backend="triton"), few(backend="torch"), 8e-3)
    apart, keys, values = (x.view(x.shape[0], -1, PASSAGE, DIM).transpose(0, 1).contiguous() for x in (q, k, v))
    plain = partial(
        torch.nn.functional.scaled_dot_product_attention, apart, keys, values, is_causal=True, enable_gqa=True
    )
    moved = (2 * q.nbytes + k.nbytes + v.nbytes) / known.copy
    multiplied = 4 * tokens * HEADS * DIM * PASSAGE / 2 / known.product
    work = partial(asked, backend="triton")
    return _row("passage_attention, one layer", tokens, work, max(moved, multiplied), plain)
