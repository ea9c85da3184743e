"""Passages read by themselves: definition, reference, kernel."""

import math

import brute
import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels import passage_attention

GPU = torch.cuda.is_available()
# H, KV, D, prefix, passages, tokens after the last passage
SHAPES = [
    (1, 1, 64, 0, [1], 0),
    (4, 2, 64, 10, [5, 0, 40, 1, 0], 0),
    (3, 1, 80, 3, [63, 70], 4),
    (2, 2, 96, 10, [130], 0),
    (8, 1, 128, 10, [2] * 30, 0),
    (2, 1, 256, 70, [20, 13], 0),
]
if GPU:
    SHAPES += [
        (g * 2, 2, d, 10, [256, 3, 500, 0, 63, 1100], 7)
        for g, d in zip(range(1, 9), [64, 80, 96, 128] * 2, strict=True)
    ]


def make(shape, dtype, device):
    heads, kv_heads, dim, prefix, passages, rest = shape
    torch.manual_seed(0)
    tokens = sum(passages) + rest
    q = torch.randn(tokens, heads, dim).to(device, dtype).transpose(0, 1)
    k, v = (torch.randn(kv_heads, tokens, dim).to(device, dtype) for _ in range(2))
    prefix_k, prefix_v = (torch.randn(kv_heads, prefix, dim).to(device, dtype) for _ in range(2))
    return q, k, v, torch.tensor([0, *passages], device=device).cumsum(0).int(), prefix_k, prefix_v


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("shape", SHAPES[:6], ids=str)
def test_reference_is_the_definition(shape, softcap):
    inputs = make(shape, torch.float32, "cpu")
    got = passage_attention(*inputs, softcap=softcap, backend="torch")
    assert brute.error(got, brute.passage_attention(*inputs, 1 / math.sqrt(shape[2]), softcap)) < 2e-6


@pytest.mark.usefixtures("triton_kernels")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_kernel_equals_reference(shape, softcap, dtype, device):
    inputs = make(shape, dtype, device)
    got = passage_attention(*inputs, softcap=softcap, backend="triton")
    wide = [x.float() if x.is_floating_point() else x for x in inputs]
    expected = passage_attention(*wide, softcap=softcap, backend="torch")
    assert got.dtype == dtype
    assert got.is_contiguous()
    assert brute.error(got, expected) < (1e-3 if dtype == torch.float16 else 8e-3)


def test_passages_do_not_see_each_other(device):
    q, k, v, cu, prefix_k, prefix_v = make((2, 1, 64, 4, [9, 6], 0), torch.float32, device)
    both = passage_attention(q, k, v, cu, prefix_k, prefix_v)
    alone = passage_attention(q[:, 9:], k[:, 9:], v[:, 9:], cu[:2] * 6 // 9, prefix_k, prefix_v)
    assert brute.error(both[9:], alone) < 1e-6


def test_wrong_shapes_say_what_is_needed():
    q, k, v, cu, prefix_k, prefix_v = make((4, 2, 64, 4, [9], 0), torch.float32, "cpu")
    with pytest.raises(InvalidInputError, match=r"\[KV, T, D\]"):
        passage_attention(q[:, :3], k, v, cu)
    with pytest.raises(InvalidInputError, match="together"):
        passage_attention(q, k, v, cu, prefix_k)
    with pytest.raises(InvalidInputError, match="prefix_k"):
        passage_attention(q, k, v, cu, prefix_k[..., :3], prefix_v[..., :3])
    with pytest.raises(InvalidInputError, match="cu_seqlens"):
        passage_attention(q, k, v, cu[:0])
