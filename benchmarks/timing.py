"""How long work takes: medians, on the host's clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable


def milliseconds(work: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median milliseconds of a piece of work.

    Args:
        work: what is timed.
        times: how often; a tenth as often before that, untimed.
        clock: gives seconds; `time.process_time` where one thread computes and the machine is shared.
    """
    for _ in range(times // 10):
        work()
    return of_each((work for _ in range(times)), clock=clock)


def of_each(
    works: Iterable[Callable[[], object]],
    wait: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Median milliseconds of several pieces of work that are alike, each done once: nothing of them is known before.

    Args:
        works: what is timed.
        wait: waits until a device is done; called before the clock is read.
        clock: gives seconds.
    """
    taken = []
    for work in works:
        wait()
        started = clock()
        work()
        wait()
        taken.append(1e3 * (clock() - started))
    return statistics.median(taken)
