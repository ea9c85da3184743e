"""Free places never overlap, are never lost, and join again."""

import random

from ctxshaper.reading.free_runs import FreeRuns


def test_passages_of_one_batch_stand_end_to_end_where_a_run_holds_them():
    runs = FreeRuns(100)
    assert runs.take([10, 0, 20]) == [0, 10, 10]
    runs.give(0, 10)
    assert runs.take([10, 5]) == [30, 40]
    assert runs.take([7]) == [0]


def test_a_batch_is_spread_over_runs_or_not_taken_at_all():
    runs = FreeRuns(40)
    starts = runs.take([10, 10, 10, 10])
    runs.give(starts[0], 10)
    runs.give(starts[2], 10)
    assert runs.take([6, 7, 3]) == [0, 20, 27]
    assert runs.free == 4
    assert runs.take([4, 4]) is None
    assert runs.free == 4
    assert runs.take([4]) == [6]
    assert runs.take([1]) is None
    assert FreeRuns(0).take([1]) is None
    assert FreeRuns(0).take([0, 0]) == [0, 0]


def test_runs_join_whatever_the_order_of_their_return():
    rng = random.Random(0)
    for _ in range(50):
        runs, held, used = FreeRuns(1000), [], set()
        for _ in range(60):
            lengths = [rng.randrange(0, 60) for _ in range(rng.randrange(1, 4))]
            starts = runs.take(lengths)
            if starts is None:
                start, length = held.pop(rng.randrange(len(held)))
                runs.give(start, length)
                used -= set(range(start, start + length))
                continue
            for start, length in zip(starts, lengths, strict=True):
                own = set(range(start, start + length))
                assert not own & used
                assert not own or max(own) < 1000
                used |= own
                held.append((start, length))
            assert runs.free == 1000 - len(used)
        rng.shuffle(held)
        for one in held:
            runs.give(*one)
        assert runs.take([1000]) == [0]
