"""key_scores: every path gives the reference's numbers, whatever lies around the keys and however they are split."""

import brute
import pytest
import torch

from ctxshaper.data import deadline
from ctxshaper.errors import DeadlineError, InvalidInputError
from ctxshaper.kernels import key_blocks, key_ranges
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.kernels.key_scores import key_lse, key_mass, key_scores, merge_lse, reference

# slots of the pairs, R, D, lengths of the ranges
CASES = [
    ((0, 1), 5, 64, [1, 63, 500]),
    ((0,), 1, 32, [1]),
    ((0, 0, 0, 2), 7, 80, [0, 63, 0, 64, 1]),
    ((1, 2, 2), 3, 96, [129, 128, 127]),
    ((0, 1), 40, 128, [500, 2]),
    ((0, 2), 2, 256, [33, 70]),
]


class Made:
    """A query and an arena that holds NaN, and keys at their most extreme, wherever no range lies."""

    def __init__(self, slots, rows, dim, lengths, *, dtype=torch.float32, keys="int8", device="cpu", seed=0):
        torch.manual_seed(seed)
        self.slots, self.capacity = slots, 3 * sum(lengths) + 64 * len(lengths)
        count = len(slots)
        self.rows = (2 * torch.randn(count, rows, dim)).to(dtype)
        self.rest, self.weights = torch.randn(count, rows) + 4, torch.rand(count, rows) / rows
        self.keys = torch.full((3, self.capacity, dim), 127, dtype=torch.int8)
        self.scales = torch.full((3, self.capacity), torch.nan, dtype=torch.bfloat16)
        self.ranges, at = [], 5
        for length in lengths:
            self.ranges.append((at, length))
            at += length + int(torch.randint(0, 40, ()))
        for start, length in self.ranges:
            own = slice(start, start + length)
            self.keys[:, own] = torch.randint(-127, 128, (3, length, dim), dtype=torch.int8)
            self.scales[:, own] = torch.rand(3, length).bfloat16() / 50
        if keys != "int8":
            wide = self.keys.float() * self.scales.float()[..., None]
            self.keys, self.scales = wide.to(dtype if dtype != torch.float32 else torch.bfloat16), None
        for name in ("rows", "rest", "weights", "keys", "scales"):
            tensor = getattr(self, name)
            setattr(self, name, tensor if tensor is None else tensor.to(device))

    def ask(self, ranges=None, softcap=None, backend="auto", rest=None):
        ranges = KeyRanges(self.ranges if ranges is None else ranges)
        rest = self.rest if rest is None else rest
        return key_scores(
            self.rows, self.slots, self.keys, self.scales, ranges, rest, self.weights, scale=0.125, softcap=softcap,
            backend=backend,
        )  # fmt: skip

    def expected(self, softcap=None, rest=None):
        rest = self.rest if rest is None else rest
        return reference(self.rows, self.slots, self.keys, self.scales, self.ranges, rest, self.weights, 0.125, softcap)


def brute_force(made, softcap):
    mass, lses = [0.0] * sum(n for _, n in made.ranges), torch.zeros(made.rest.shape, dtype=torch.float64)
    places = [t for start, length in made.ranges for t in range(start, start + length)]
    for p, slot in enumerate(made.slots):
        for r in range(made.rows.shape[1]):
            values = []
            for t in places:
                key = made.keys[slot, t].double() * made.scales[slot, t].double()
                x = 0.125 * (key @ made.rows[p, r].double())
                values.append(x if softcap is None else softcap * torch.tanh(x / softcap))
            lses[p, r] = torch.logsumexp(torch.stack([made.rest[p, r].double(), *values]), 0)
            for i, x in enumerate(values):
                mass[i] += float(made.weights[p, r].double() * (x - lses[p, r]).exp())
    return torch.tensor(mass), lses


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_the_reference_is_the_formula(softcap):
    made = Made((0, 0, 2), 2, 32, [1, 0, 17])
    mass, lse = made.expected(softcap)
    slow_mass, slow_lse = brute_force(made, softcap)
    assert brute.error(mass, slow_mass) < 1e-6
    assert brute.error(lse, slow_lse) < 1e-12


@pytest.mark.parametrize("integers", [True, False], ids=["integer products", "float products"])
@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("keys", ["int8", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_give_the_reference(case, keys, softcap, integers, monkeypatch):
    if integers and not key_blocks.integer_products("cpu"):
        pytest.skip("this CPU has no VNNI")
    monkeypatch.setattr(key_blocks, "integer_products", lambda device: integers)
    made = Made(*case, keys=keys)
    mass, lse = made.ask(softcap=softcap)
    expected_mass, expected_lse = made.expected(softcap)
    # As integers rows have 16 bits: logits of this size are right to some 1e-4, and so are scores.
    tolerance = 5e-4 if integers and keys == "int8" else 1e-5
    assert brute.error(mass, expected_mass) < tolerance
    assert (lse - expected_lse).abs().max() < tolerance


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("keys", ["int8", "half"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_kernel_gives_the_reference(case, keys, softcap, dtype, device, triton_kernels):
    made = Made(*case, keys=keys, dtype=dtype, device=device)
    mass, lse = made.ask(softcap=softcap, backend="triton")
    expected_mass, expected_lse = made.expected(softcap)
    assert brute.error(mass, expected_mass) < 1e-5
    assert brute.error(lse, expected_lse) < 1e-5


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("shards", [1, 2, 7])
def test_shards_merge_to_the_whole(shards, backend, device):
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    made = Made((0, 1, 1), 6, 64, [1, 63, 500, 0, 130, 2, 90], dtype=torch.float16, device=device)
    whole, lse = made.ask(backend=backend)
    common = {"scale": 0.125, "backend": backend}
    split = [KeyRanges(made.ranges[i::shards]) for i in range(shards)]
    given = made.rows, made.slots, made.keys, made.scales
    parts = [key_lse(*given, ranges, made.rest, **common) for ranges in split]
    total = merge_lse([made.rest, *parts])
    # Pieces of other sizes may be multiplied in another order: products then differ in the last bits of float32.
    bound = 1e-6
    torch.testing.assert_close(total, lse, rtol=bound, atol=bound)
    places, at = [], 0
    for _, length in made.ranges:
        places.append(slice(at, at + length))
        at += length
    for i, ranges in enumerate(split):
        mass = key_mass(*given, ranges, total, made.weights, **common)
        torch.testing.assert_close(mass, torch.cat([whole[p] for p in places[i::shards]]), rtol=2e-6, atol=0)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_neither_order_nor_place_shows_in_a_score(backend, device):
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    made = Made((0, 1), 16, 64, [63, 500, 1, 130, 700], dtype=torch.float16, device=device)
    first, lse = made.ask(backend=backend)
    whole = dict(zip(made.ranges, first.split([n for _, n in made.ranges]), strict=True))
    order = [made.ranges[i] for i in (3, 0, 4, 2, 1)]
    second, again = made.ask(order, backend=backend)
    for one, got in zip(order, second.split([n for _, n in order]), strict=True):
        assert torch.equal(got, whole[one])
    assert torch.equal(lse.float(), again.float())
    moved = Made((0, 1), 16, 64, [63, 500, 1, 130, 700], dtype=torch.float16, device=device)
    shift = 37  # all of them elsewhere, and end to end, so that blocks are cut at other places
    moved.keys, moved.scales, moved.ranges, at = made.keys.clone(), made.scales.clone(), [], shift
    for start, length in made.ranges:
        moved.keys[:, at : at + length] = made.keys[:, start : start + length]
        moved.scales[:, at : at + length] = made.scales[:, start : start + length]
        moved.ranges.append((at, length))
        at += length
    third = moved.ask(backend=backend)[0]
    if backend == "torch":
        assert torch.equal(third, first)
    else:
        # The interpreter's products are numpy's, which round by a tile's shape.
        torch.testing.assert_close(third, first, rtol=5e-6, atol=0)


def test_long_ranges_are_cut_and_short_ones_joined(monkeypatch):
    monkeypatch.setattr(key_ranges, "BLOCK", 256)
    monkeypatch.setattr(key_ranges, "_SHORT", 64)
    lengths = [600, 30, 1, 63, 63, 63, 63, 63, 257, 0, 20]
    made = Made((0, 2), 3, 32, lengths)
    ranges = KeyRanges(made.ranges)
    assert max(b.tokens.stop - b.tokens.start for b in ranges.blocks) <= 256
    assert len(ranges.blocks) < len(lengths) + 2
    places = [p for b in ranges.blocks for p in torch.arange(made.capacity)[b.keys].tolist()]
    assert places == [t for start, length in made.ranges for t in range(start, start + length)]
    for kept in (2**26, 0, 20_000):  # all exponentials kept for the second phase, none, some
        monkeypatch.setattr(key_blocks, "_KEPT_BYTES", kept)
        assert brute.error(made.ask()[0], made.expected()[0]) < 2e-4


def test_tables_cover_every_token_once():
    ranges = KeyRanges([(10, 5), (15, 300), (400, 0), (400, 128), (5, 1)])
    table = ranges.table(128, torch.device("cpu"))
    assert table[:, 1].sum() == ranges.tokens == 434
    assert table[:, 1].max() <= 128
    covered = [p for start, length, _ in table.tolist() for p in range(start, start + length)]
    assert covered == [*range(10, 315), *range(400, 528), 5]
    assert table[:, 2].tolist() == (table[:, 1].cumsum(0) - table[:, 1]).tolist()
    assert ranges.table(128, torch.device("cpu")) is table


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_no_tokens(backend, device):
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    made = Made((0, 1), 3, 64, [4], dtype=torch.float16, device=device)
    for none in ([], [(3, 0)]):
        mass, lse = made.ask(none, backend=backend)
        assert mass.shape == (0,)
        assert torch.equal(lse, made.rest.double())


@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("rest", [-300.0, 300.0])
def test_logits_far_from_what_else_is_seen(rest, backend, device):
    if backend == "triton":
        pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")
    made = Made((0, 1), 4, 64, [63, 70], dtype=torch.float16, device=device)
    far = torch.full_like(made.rest, rest)
    mass, lse = made.ask(backend=backend, rest=far)
    expected_mass, expected_lse = made.expected(rest=far)
    assert brute.error(mass, expected_mass) < 1e-3
    assert (lse - expected_lse).abs().max() < 1e-3


def test_rows_that_are_not_numbers_give_none():
    made = Made((0, 1), 3, 64, [40])
    made.rows[1, 2, 5] = torch.nan
    assert made.ask()[0].isnan().all()


def test_a_deadline_stops_the_work_between_blocks():
    made = Made((0, 1), 3, 64, [40])
    gone = deadline.Deadline()
    gone.cancel()
    with deadline.under(gone), pytest.raises(DeadlineError):
        made.ask()


def test_wrong_inputs_say_what_is_needed():
    made = Made((0, 1), 3, 64, [40])
    with pytest.raises(InvalidInputError, match=r"the ranges reach to 9999, but the arena holds"):
        made.ask([(9998, 1)])
    with pytest.raises(InvalidInputError, match="at least 0"):
        KeyRanges([(-1, 3)])
    with pytest.raises(InvalidInputError, match=r"integers \[N, 2\]"):
        KeyRanges([(1.5, 3.0)])
    made.slots = (1, 0)
    with pytest.raises(InvalidInputError, match="not decreasing"):
        made.ask()
    made.slots, kept = (0, 1), made.scales
    made.scales = None
    with pytest.raises(InvalidInputError, match="int8 keys need scales"):
        made.ask()
    made.scales, made.rest = kept, made.rest[:1]
    with pytest.raises(InvalidInputError, match=r"\[P, R\] = \[2, 3\]"):
        made.ask()
