"""A hostile passage of a megabyte is shaped in bounded time, and others get their turn meanwhile."""

import threading
import time

import pytest

from ctxshaper import FakeReader, Pipeline
from tests.test_growth import LARGEST, TEXTS

# The kinds that took longest of all of `TEXTS` (2 to 12 s on a quiet core), and one of each structure.
SLOWEST = ["- a, - a", "mixed", "<div><p>", "log lines", "def f(x):", '{"context": [[[', "a,b,c", "> a"]
# Seconds: five times what was measured, for machines that are slower or busy. Squares would take hours.
MOST, LONGEST_WAIT = 60.0, 5.0


@pytest.mark.parametrize("name", SLOWEST)
def test_a_megabyte_ends_and_gives_the_interpreter_up(name):
    text = TEXTS[name](LARGEST)
    pipeline = Pipeline.from_recipe("fast", reader=FakeReader())
    waits, over = [0.0], threading.Event()

    def other():
        before = time.perf_counter()
        while not over.is_set():
            time.sleep(0.001)
            waits.append(time.perf_counter() - before)
            before = time.perf_counter()

    thread = threading.Thread(target=other)
    thread.start()
    started = time.perf_counter()
    try:
        shaped = pipeline.shape("Who designed the bridge?", [text, "Ada Moreau designed the bridge in 1931."], 200)
    finally:
        took = time.perf_counter() - started
        over.set()
        thread.join()
    assert took < MOST
    assert max(waits) < LONGEST_WAIT
    assert shaped.text
    assert shaped.tokens <= 200
