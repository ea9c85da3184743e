"""Keys round to 8 bits within half a step, and nothing damaged is taken for keys or rows."""

import copy
import pickle

import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.kernels.key_scores import merge_lse
from ctxshaper.reading.keys import KeyArena, PassageKeys, QueryRows, quantise, rest_of


def make_rows(dtype=torch.float32, softcap=None):
    torch.manual_seed(0)
    rest = torch.rand(3, 4) + 3
    weights = torch.rand(3, 4) / 4
    return QueryRows(torch.randn(3, 4, 64).to(dtype), (0, 0, 1), rest, rest - 1, weights, 0.125, softcap)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_rounding_is_within_half_a_step(dtype, size):
    torch.manual_seed(0)
    keys = (torch.randn(3, 200, 64) * size).to(dtype)
    ints, scales = quantise(keys)
    assert ints.dtype == torch.int8
    assert scales.dtype == torch.bfloat16
    assert ints.min() >= -127
    steps = scales.float()[..., None]
    assert ((ints * steps - keys.float()).abs() <= steps * 0.5001).all()
    # A scale is the largest key over 127, rounded up: by less than one part in 127.
    assert (scales.float() >= keys.float().abs().amax(-1) / 127).all()
    assert (scales.float() <= keys.float().abs().amax(-1) / 127 * (1 + 1 / 127)).all()


def test_zeros_and_the_smallest_numbers_round_to_themselves():
    keys = torch.zeros(1, 3, 32)
    keys[0, 1, 4], keys[0, 2, 5] = 1e-42, -3.0
    ints, scales = quantise(keys)
    assert (ints[0, 0] == 0).all()
    assert scales[0, 0] == 0
    assert ints[0, 2, 5] == -127
    assert ((ints * scales.float()[..., None] - keys).abs() <= 0.02).all()
    assert quantise(torch.zeros(2, 0, 32))[1].shape == (2, 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_keys_that_are_not_numbers_are_refused(bad):
    keys = torch.randn(1, 3, 32)
    keys[0, 1, 7] = bad
    with pytest.raises(InvalidInputError, match="NaN or infinity"):
        quantise(keys)


@pytest.mark.parametrize("tokens", [0, 1, 130])
@pytest.mark.parametrize("rounded", [True, False])
def test_passages_come_back_from_bytes(tokens, rounded):
    torch.manual_seed(0)
    wide = torch.randn(2, tokens, 64)
    one = PassageKeys(*quantise(wide)) if rounded else PassageKeys(wide.bfloat16(), None)
    data = one.to_bytes()
    assert len(data) == 12 + tokens * 2 * (66 if rounded else 128) == 12 + one.nbytes
    back = PassageKeys.from_bytes(memoryview(data))
    assert torch.equal(back.keys, one.keys)
    assert (back.scales is None) == (one.scales is None)
    assert back.scales is None or torch.equal(back.scales, one.scales)
    assert back.tokens == tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_rows_come_back_from_bytes_and_pickles(dtype, softcap):
    one = make_rows(dtype, softcap)
    again = pickle.loads(pickle.dumps(one))  # made here
    for back in (QueryRows.from_bytes(one.to_bytes()), again, copy.deepcopy(one)):
        for name in ("rows", "rest", "prefix", "weights"):
            assert torch.equal(getattr(back, name), getattr(one, name))
            assert getattr(back, name).dtype == getattr(one, name).dtype
        assert (back.slots, back.scale, back.softcap) == (one.slots, one.scale, one.softcap)


@pytest.mark.parametrize("kind", [PassageKeys, QueryRows])
def test_damaged_bytes_are_refused(kind):
    one = PassageKeys(*quantise(torch.randn(2, 9, 64))) if kind is PassageKeys else make_rows()
    data = one.to_bytes()
    for cut in (0, 3, 11, 30, len(data) - 1):
        with pytest.raises(InvalidInputError, match="damaged"):
            kind.from_bytes(data[:cut])
    with pytest.raises(InvalidInputError, match="damaged"):
        kind.from_bytes(data + b"\0")
    for place in range(4):  # magic, version, type
        broken = bytearray(data)
        broken[place] ^= 0x40
        with pytest.raises(InvalidInputError, match="begin with"):
            kind.from_bytes(bytes(broken))


def test_shapes_that_do_not_fit_say_what_is_needed():
    ints, scales = quantise(torch.randn(2, 9, 64))
    with pytest.raises(InvalidInputError, match="int8 keys need bfloat16"):
        PassageKeys(ints, None)
    with pytest.raises(InvalidInputError, match="int8 or bfloat16"):
        PassageKeys(ints.float(), scales)
    one = make_rows()
    with pytest.raises(InvalidInputError, match="not decreasing"):
        QueryRows(one.rows, (1, 0, 0), one.rest, one.prefix, one.weights, 0.1)
    with pytest.raises(InvalidInputError, match=r"rest is .* needed is float32 \[3, 4\]"):
        QueryRows(one.rows, one.slots, one.rest[0], one.prefix, one.weights, 0.1)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_one_softmax_over_prefix_passages_and_query(softcap):
    """Rows, rest and scores together are plain attention over everything, as one long prompt would compute it."""
    torch.manual_seed(0)
    prefix, past, own = torch.randn(2, 5, 32), torch.randn(2, 70, 32), torch.randn(2, 6, 32)
    at = torch.tensor([1, 2, 4])
    rows = torch.randn(2, 3, 32)
    rest, before = rest_of(rows, at, prefix, own, 0.2, softcap)
    asked = QueryRows(rows, (0, 1), rest, before, torch.full((2, 3), 1 / 6), 0.2, softcap)
    mass, lse = asked.scores(KeyArena(past.bfloat16(), None), KeyRanges([(0, 70)]))
    keys = torch.cat((prefix, past.bfloat16().float(), own), 1)
    x = rows @ keys.transpose(1, 2) * 0.2
    x = x if softcap is None else softcap * torch.tanh(x / softcap)
    x[:, :, 75:].masked_fill_(torch.arange(6) > at[:, None], -torch.inf)
    weights = x.softmax(-1)
    torch.testing.assert_close(mass, weights[:, :, 5:75].mean((0, 1)), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close((before - lse).exp().float(), weights[:, :, :5].sum(-1), rtol=1e-4, atol=1e-7)


def test_shards_by_rows_sent_as_bytes():
    """What a shard's machine does: rows arrive as bytes, two answers go back."""
    torch.manual_seed(0)
    asked = QueryRows.from_bytes(make_rows().to_bytes())
    arenas = [KeyArena(*quantise(torch.randn(2, n, 64))) for n in (40, 3, 500)]
    ranges = [KeyRanges([(0, arena.keys.shape[1])]) for arena in arenas]
    lse = merge_lse([asked.rest, *(asked.lse(a, r) for a, r in zip(arenas, ranges, strict=True))])
    parts = [asked.mass(a, r, lse) for a, r in zip(arenas, ranges, strict=True)]
    whole = KeyArena(*(torch.cat(t, 1) for t in zip(*arenas, strict=True)))
    mass, total = asked.scores(whole, KeyRanges([(0, 543)]))
    torch.testing.assert_close(torch.cat(parts), mass, rtol=2e-6, atol=0)
    # Products of other shapes may be summed in another order.
    torch.testing.assert_close(lse, total, rtol=1e-6, atol=0)
