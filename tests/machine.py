"""How fast this machine is, for limits on processor time: cores differ by three times and more."""

import time

# Processor seconds of `_work` on the machine that the limits were set on.
_USUAL = 0.055


def slowness():
    """How many times slower than that machine this one computes at the moment; 1 at least."""
    return max(1.0, min(_work() for _ in range(3)) / _USUAL)


def _work():
    started, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number
    return time.process_time() - started
