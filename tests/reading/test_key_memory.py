"""The memory keeps what is put, bounds what it takes, and never touches what a request holds."""

import multiprocessing
import random
import threading
import time

import pytest
import torch

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.key_memory import KeyMemory
from ctxshaper.reading.keys import PassageKeys, QueryRows, quantise

SLOTS, DIM = 2, 32
TOKEN = SLOTS * (DIM + 2)


def name(number):
    return number.to_bytes(16, "big")


def passage(number, tokens=10):
    made = torch.Generator().manual_seed(number)
    return PassageKeys(*quantise(torch.randn(SLOTS, tokens, DIM, generator=made)))


def ask(memory, *numbers, tokens=10):
    """Hold passages, and put those that are missing."""
    held = memory.hold({name(n): tokens for n in numbers})
    for key, count in held.missing.items():
        held.put(key, passage(int.from_bytes(key, "big"), count))
    return held


def same(got, expected):
    return torch.equal(got.keys, expected.keys) and torch.equal(got.scales, expected.scales)


def rows():
    torch.manual_seed(7)
    rest = torch.full((2, 3), 2.0)
    return QueryRows(torch.randn(2, 3, DIM), (0, 1), rest, rest - 1, torch.full((2, 3), 1 / 6), 0.2)


def test_what_is_put_is_found():
    memory = KeyMemory(100 * TOKEN, SLOTS, DIM)
    with memory.hold({name(1): 10, name(2): 10}) as held:
        assert held.missing == {name(1): 10, name(2): 10}
        with pytest.raises(InvalidInputError, match="2 passages are missing"):
            _ = held.ranges
        both = passage(1), passage(2)
        held.put_batch([name(2), name(1)], torch.cat([p.keys for p in both[::-1]], 1),
                       torch.cat([p.scales for p in both[::-1]], 1))  # fmt: skip
    assert len(memory) == 2
    assert memory.nbytes == 20 * TOKEN
    assert name(1) in memory
    with memory.hold({name(1): 10, name(2): 10}) as held:
        assert not held.missing
        assert same(held.passage(name(1)), both[0])
        assert same(held.passage(name(2)), both[1])


def test_scores_are_those_of_the_passages_whatever_was_held_before():
    alone, crowded = KeyMemory(1000 * TOKEN, SLOTS, DIM), KeyMemory(1000 * TOKEN, SLOTS, DIM)
    for n in (9, 3, 50, 2):
        ask(crowded, n).release()
    found = []
    for memory, order in ((alone, (1, 2, 3, 4)), (crowded, (4, 3, 2, 1))):
        with ask(memory, *order) as held:
            mass, _ = rows().scores(held.arena, held.ranges)
            found.append({key: mass[place] for key, place in held.slices.items()})
    for key, mass in found[0].items():
        assert torch.equal(mass, found[1][key])


def test_least_recently_used_goes_first():
    memory = KeyMemory(45 * TOKEN, SLOTS, DIM)
    for n in (1, 2, 3, 4):
        ask(memory, n).release()
    ask(memory, 1).release()
    ask(memory, 5).release()
    assert [n for n in range(1, 6) if name(n) in memory] == [1, 3, 4, 5]
    assert memory.nbytes <= 45 * TOKEN


def test_what_passages_are_asked_for_again_through_ready_tables_counts_as_use():
    memory = KeyMemory(40 * TOKEN, SLOTS, DIM)
    for group in ((1, 2), (3, 4)):
        with ask(memory, *group) as held:
            assert held.ranges.tokens == 20
    with ask(memory, 1, 2) as held:  # finds its tables
        assert held.ranges.tokens == 20
    ask(memory, 5).release()
    assert name(1) in memory
    assert name(3) not in memory


def test_tables_of_a_set_are_made_once():
    memory = KeyMemory(100 * TOKEN, SLOTS, DIM)
    with ask(memory, 1, 2, 3) as held:
        ranges = held.ranges
        with ask(memory, 1, 2, 3) as other:
            assert other.ranges is ranges
    with ask(memory, 1, 2, 3) as held:
        assert held.ranges is ranges
        assert held.slices == {name(1): slice(0, 10), name(2): slice(10, 20), name(3): slice(20, 30)}


def test_what_is_held_is_not_overwritten():
    memory = KeyMemory(40 * TOKEN, SLOTS, DIM)
    with ask(memory, 1, 2, 3) as held:
        before, _ = rows().scores(held.arena, held.ranges)
        for n in range(10, 30):
            with ask(memory, n, n + 1) as other:  # do not fit beside it: memory of their own
                assert same(other.passage(name(n)), passage(n))
                assert other.ranges.tokens == 20
        memory.clear()
        ask(memory, 40).release()
        after, _ = rows().scores(held.arena, held.ranges)
        assert torch.equal(before, after)
        assert memory.nbytes == 40 * TOKEN
    memory.clear()
    assert memory.nbytes == 0


@pytest.mark.parametrize("tokens", [0, 5])
def test_a_request_larger_than_the_memory_is_answered_and_not_remembered(tokens):
    memory = KeyMemory(tokens * TOKEN, SLOTS, DIM)
    expected, _ = rows().scores((large := ask(KeyMemory(100 * TOKEN, SLOTS, DIM), 1, 2)).arena, large.ranges)
    with ask(memory, 1, 2) as held:
        assert torch.equal(rows().scores(held.arena, held.ranges)[0], expected)
    assert len(memory) == 0
    assert memory.nbytes == 0


def test_found_passages_come_along_where_the_rest_does_not_fit():
    memory = KeyMemory(25 * TOKEN, SLOTS, DIM)
    ask(memory, 1).release()
    with memory.hold({name(1): 10, name(2): 10, name(3): 10}) as held:
        assert list(held.missing) == [name(2), name(3)]
        for n in (2, 3):
            held.put(name(n), passage(n))
        assert all(same(held.passage(name(n)), passage(n)) for n in (1, 2, 3))
    assert name(1) in memory


def test_a_request_that_fails_gives_its_places_back():
    memory = KeyMemory(30 * TOKEN, SLOTS, DIM)
    with memory.hold({name(1): 10, name(2): 10}) as held:
        held.put(name(1), passage(1))  # and never the other: its reading failed
    held.release()
    with pytest.raises(InvalidInputError, match="1 passages are missing"):
        _ = held.ranges
    assert len(memory) == 1
    assert memory.nbytes == 10 * TOKEN


def test_two_requests_that_read_the_same_passage():
    memory = KeyMemory(100 * TOKEN, SLOTS, DIM)
    one, two = memory.hold({name(1): 10}), memory.hold({name(1): 10})
    for held in (one, two):
        held.put(name(1), passage(1))
        assert same(held.passage(name(1)), passage(1))
        assert held.ranges.tokens == 10
    one.release()
    two.release()
    assert memory.nbytes == 10 * TOKEN


def test_passages_without_tokens():
    memory = KeyMemory(100 * TOKEN, SLOTS, DIM)
    with ask(memory, 1, 2, tokens=0) as held:
        assert held.ranges.tokens == 0
        assert rows().scores(held.arena, held.ranges)[0].shape == (0,)
    with memory.hold({}) as held:
        assert held.ranges.tokens == 0


def test_bfloat16_keys():
    memory = KeyMemory(100 * TOKEN, SLOTS, DIM, dtype=torch.bfloat16)
    assert memory.capacity == 100 * TOKEN // (2 * SLOTS * DIM)
    wide = torch.randn(SLOTS, 10, DIM).bfloat16()
    with memory.hold({name(1): 10}) as held:
        held.put(name(1), PassageKeys(wide, None))
        assert torch.equal(held.passage(name(1)).keys, wide)
        with pytest.raises(InvalidInputError, match="not missing"):
            held.put(name(1), PassageKeys(wide, None))


def test_wrong_sizes_say_what_is_needed():
    with pytest.raises(InvalidInputError, match="at least 0, 1 and 1"):
        KeyMemory(-1, SLOTS, DIM)
    with KeyMemory(100 * TOKEN, SLOTS, DIM).hold({name(1): 10}) as held:
        with pytest.raises(InvalidInputError, match=r"needed is torch.int8 \[2, 10, 32\]"):
            held.put(name(1), passage(1, tokens=9))
        with pytest.raises(InvalidInputError, match="not held, or was not put yet"):
            held.passage(name(2))


def test_threads_get_their_own_passages():
    memory, wrong = KeyMemory(120 * TOKEN, SLOTS, DIM), []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(60):
            wanted = sorted(rng.sample(range(30), 4))
            with ask(memory, *wanted) as held:
                mass, _ = rows().scores(held.arena, held.ranges)
                if not all(same(held.passage(name(n)), passage(n)) for n in wanted) or mass.shape != (40,):
                    wrong.append(wanted)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert memory.nbytes <= 120 * TOKEN
    memory.clear()
    assert memory.nbytes == 0


def _child(memory, answers):
    with ask(memory, 1, 99) as held:
        answers.put(same(held.passage(name(1)), passage(1)) and same(held.passage(name(99)), passage(99)))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_threads_work_does_not_hang():
    memory, stop = KeyMemory(1000 * TOKEN, SLOTS, DIM), threading.Event()
    ask(memory, 1).release()

    def work():
        n = 2
        while not stop.is_set():
            memory.hold({name(n): 10}).release()
            n += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        context = multiprocessing.get_context("fork")
        for _ in range(5):
            answers = context.Queue()
            child = context.Process(target=_child, args=(memory, answers))
            child.start()
            assert answers.get(timeout=30)
            child.join(30)
            assert child.exitcode == 0
    finally:
        stop.set()
        thread.join()


def test_a_warm_request_of_thousands_of_passages_takes_no_time_for_each():
    memory, count = KeyMemory(100_000 * TOKEN, SLOTS, DIM), 8000
    tokens = {name(n): 10 for n in range(count)}
    with memory.hold(tokens) as held:
        held.put_batch(list(tokens), torch.ones(SLOTS, 10 * count, DIM, dtype=torch.int8),
                       torch.ones(SLOTS, 10 * count).bfloat16())  # fmt: skip
        assert held.ranges.tokens == 10 * count
    times = []
    for _ in range(5):
        started = time.thread_time()
        with memory.hold(tokens) as held:
            assert len(held.ranges.blocks) == 10  # end to end, so read in large blocks
        times.append(time.thread_time() - started)
    assert min(times) < 0.004
