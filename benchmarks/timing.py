"""How long work takes: medians, on the host's clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable


def milliseconds(work: Callable[[], object], times: int, wait: Callable[[], object] = lambda: None) -> float:
    """Median milliseconds of a piece of work.

    Args:
        work: what is timed.
        times: how often; a tenth as often before that, untimed.
        wait: waits until a device is done with the work; called before the clock is read.
    """
    for _ in range(times // 10):
        work()
    return of_each((work for _ in range(times)), wait)


def of_each(works: Iterable[Callable[[], object]], wait: Callable[[], object] = lambda: None) -> float:
    """Median milliseconds of several pieces of work that are alike, each done once: nothing of them is known before."""
    taken = []
    for work in works:
        wait()
        started = time.perf_counter()
        work()
        wait()
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken)
