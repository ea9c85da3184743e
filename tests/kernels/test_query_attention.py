"""Queries over pages: definition, reference, kernel, batch."""

import math
from itertools import product

import brute
import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels import query_attention

GPU = torch.cuda.is_available()
# R, H, KV, D, page size, valid slots of each page
SHAPES = [
    (1, 1, 1, 64, 16, [1]),
    (3, 4, 2, 64, 16, [16, 5, 0, 16]),
    (3, 8, 1, 80, 64, [63]),
    (63, 3, 1, 96, 33, [33, 0, 20]),
    (200, 2, 2, 64, 128, [128, 1]),
    (3, 5, 5, 128, 128, [128, 128, 128, 116]),
    (2, 12, 2, 256, 64, [64, 64, 3]),
    (1, 7, 1, 64, 64, [0, 0]),
    (3, 2, 1, 64, 64, []),
    (3, 4, 1, 64, 500, [500]),
]
if GPU:
    SHAPES += [
        (rows, kv_heads * group, kv_heads, dim, slots, lengths)
        for (rows, dim, group), (kv_heads, slots, lengths) in product(
            zip([1, 3, 63, 200, 3, 63, 200, 1], [64, 80, 96, 128, 256, 128, 256, 128], range(1, 9), strict=True),
            [(2, 64, [64] * 78 + [11]), (1, 128, [128, 7, 0, 128] * 10), (3, 5003, [5003]), (2, 100, [100, 63, 100])],
        )
    ]


def make(shape, dtype, device, seed=0):
    rows, heads, kv_heads, dim, slots, lengths = shape
    torch.manual_seed(seed)
    pages = len(lengths) + 2

    def random(*size):
        return torch.randn(*size).to(dtype)

    q, own_k, own_v = random(rows, heads, dim), random(rows, kv_heads, dim), random(rows, kv_heads, dim)
    k, v = random(pages, kv_heads, slots, dim), random(pages, kv_heads, slots, dim)
    ids = torch.randperm(pages)[: len(lengths)].int()
    for page, length in zip(ids.tolist(), lengths, strict=True):
        k[page, :, length:] = v[page, :, length:] = math.nan  # must never be used
    return [x.to(device) for x in (q, k, v, ids, torch.tensor(lengths, dtype=torch.int32), own_k, own_v)]


def some_weights(rows, heads, device):
    weights = torch.rand(rows, heads)
    weights[:, 0] = 0.0
    weights[0] = 1.0
    return weights.to(device)


@pytest.mark.parametrize("softcap", [None, 5.0])
@pytest.mark.parametrize("shape", [s for s in SHAPES[:10] if s[0] * sum(s[5]) < 20_000], ids=str)
def test_reference_is_the_definition(shape, softcap):
    inputs = make(shape, torch.float32, "cpu")
    weights = some_weights(shape[0], shape[1], "cpu")
    got = query_attention(*inputs, softcap=softcap, mass_weights=weights, backend="torch")
    expected = brute.query_attention(*inputs, 1 / math.sqrt(shape[3]), softcap, weights)
    assert all(brute.error(a, b) < 2e-6 for a, b in zip(got, expected, strict=True))


@pytest.mark.usefixtures("triton_kernels")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernel_equals_reference(shape, dtype, device):
    inputs = make(shape, dtype, device)
    weights = some_weights(shape[0], shape[1], device)
    out, lse, mass = query_attention(*inputs, mass_weights=weights, backend="triton")
    ref_out, ref_lse, ref_mass = query_attention(*inputs, mass_weights=weights, backend="torch")
    assert brute.error(out, ref_out) < (1e-3 if dtype == torch.float16 else 8e-3)
    assert brute.error(lse, ref_lse) < 1e-5
    assert brute.error(mass, ref_mass) < 1e-4
    invalid = torch.arange(shape[4])[None] >= torch.tensor(shape[5], dtype=torch.long)[:, None]
    assert not mass.cpu()[invalid.flatten()].any()


@pytest.mark.usefixtures("triton_kernels")
@pytest.mark.parametrize("slots", [128, 256])
def test_finite_pages_may_be_copied_in_bulk(slots, dtype, device):
    inputs = make((32, 4, 2, 64, slots, [slots, 5, 0]), dtype, device)
    inputs[1:3] = [x.nan_to_num(3.0) for x in inputs[1:3]]
    weights = some_weights(32, 4, device)
    got = query_attention(*inputs, mass_weights=weights, finite=True, backend="triton")
    expected = query_attention(*inputs, mass_weights=weights, backend="torch")
    for a, b, bound in zip(got, expected, (1e-3 if dtype == torch.float16 else 8e-3, 1e-5, 1e-4), strict=True):
        assert brute.error(a, b) < bound


@pytest.mark.usefixtures("triton_kernels")
def test_softcap_scale_and_no_output(device):
    inputs = make((3, 4, 2, 64, 64, [64, 10]), torch.float16, device)
    options = {"softcap": 3.0, "scale": 0.3, "mass_weights": torch.ones(4, device=device), "need_output": False}
    out, lse, mass = query_attention(*inputs, **options, backend="triton")
    ref_out, ref_lse, ref_mass = query_attention(*inputs, **options, backend="torch")
    assert out is None
    assert ref_out is None
    assert brute.error(lse, ref_lse) < 1e-5
    assert brute.error(mass, ref_mass) < 1e-4


def test_mass_is_computed_only_where_asked_for(device):
    inputs = make((4, 2, 1, 64, 16, [16, 3]), torch.float16, device)
    assert query_attention(*inputs)[2] is None


def test_one_page_is_read_in_place(monkeypatch, device):
    inputs = make((2, 2, 1, 64, 500, [500]), torch.float32, device)
    monkeypatch.setattr(torch.Tensor, "index_select", lambda *a: pytest.fail("gathered a single page"))
    query_attention(*inputs, mass_weights=torch.ones(2), backend="torch")


def test_wrong_shapes_say_what_is_needed():
    q, k, v, ids, lengths, own_k, own_v = make((3, 4, 2, 64, 16, [16]), torch.float32, "cpu")
    with pytest.raises(InvalidInputError, match=r"H a multiple of KV"):
        query_attention(q[:, :3], k, v, ids, lengths, own_k, own_v)
    with pytest.raises(InvalidInputError, match=r"needed is \[3, 2, 64\]"):
        query_attention(q, k, v, ids, lengths, own_k[:2], own_v)
    with pytest.raises(InvalidInputError, match="page_lengths"):
        query_attention(q, k, v, ids, lengths[:0], own_k, own_v)
    with pytest.raises(InvalidInputError, match="mass_weights"):
        query_attention(q, k, v, ids, lengths, own_k, own_v, mass_weights=torch.ones(3))
