"""A reader in other processes: copied, pickled, forked."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from ctxshaper import InvalidInputError, Reader
from ctxshaper.reading.locks import ForkSafeLock, once
from tests.reading.test_reader import QUERY, TEXTS, tiny_reader

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_a_reader_pickles_and_copies_as_its_arguments(tiny_model):
    reader = tiny_reader(tiny_model("llama"), cache_bytes=12_345_678, max_tokens=4321)
    wanted = reader.read(QUERY, TEXTS)
    data = pickle.dumps(reader)
    assert len(data) < 5_000  # nothing that was loaded or read is carried
    for other in (copy.deepcopy(reader), pickle.loads(data)):  # our own
        assert "decoder" not in vars(other)
        assert (other.max_tokens, other.device, other.dtype) == (reader.max_tokens, reader.device, reader.dtype)
        got = other.read(QUERY, TEXTS)
        assert got.notes["cache_hits"] == 0
        assert all(np.array_equal(a.scores, b.scores) for a, b in zip(got.passages, wanted.passages, strict=True))


def test_wrong_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="max_tokens >= 1"):
        Reader(max_tokens=0)
    with pytest.raises(InvalidInputError, match="cache_bytes >= 0"):
        Reader(cache_bytes=-1)


def test_a_property_is_made_once_by_one_thread():
    made = []

    class Thing:
        def __init__(self):
            self._lock = ForkSafeLock(reentrant=True)

        @once
        def value(self):
            """Documented."""
            made.append(threading.get_ident())
            return object()

    thing, seen = Thing(), []
    threads = [threading.Thread(target=lambda: seen.append(thing.value)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert len(set(map(id, seen))) == 1
    assert Thing.value.__doc__ == "Documented."


@needs_fork
def test_a_child_finds_a_lock_open_that_another_thread_held():
    lock, held, done = ForkSafeLock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if not child:
        with lock:
            os._exit(0)
    done.set()
    thread.join()
    assert os.waitpid(child, 0)[1] == 0


@needs_fork
def test_a_fork_after_threaded_reading_reads_on(tiny_model):
    # In a process of its own, with torch's threads as a user has them: OpenMP hangs in a child that reuses them.
    code = textwrap.dedent(
        f"""
        import os, sys, threading
        import torch
        from ctxshaper import HeadProfile, Reader
        from ctxshaper.reading.profile import Head

        torch.set_num_threads(4)
        profile = HeadProfile("tiny", (Head(1, 2), Head(3, 0)), filter_layer=2)
        reader = Reader({str(tiny_model("llama"))!r}, profile=profile, dtype="float32")
        texts = [" ".join(f"word{{i}} of {{n}}" for i in range(200)) for n in range(8)]
        threads = [threading.Thread(target=reader.read, args=("Who?", texts)) for _ in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        wanted = reader.read("Who?", texts).passage_scores()
        stop = threading.Event()

        def read_on():
            while not stop.is_set():
                reader.read("Who?", [f"new {{os.urandom(4).hex()}}"])

        busy = threading.Thread(target=read_on)
        busy.start()
        for _ in range(5):
            child = os.fork()
            if not child:
                got = reader.read("Who?", texts + ["one more"]).passage_scores()[:8]
                again = reader.read("Who?", texts).passage_scores()
                os._exit(0 if abs(again - wanted).max() < 1e-4 else 1)
            if os.waitpid(child, 0)[1]:
                stop.set()
                sys.exit("the child failed")
        stop.set()
        """
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
