"""Requests that arrive while another is read: read together, failing apart."""

import threading

import pytest

from ctxshaper.reading.request_batcher import Gathering


class Counted:
    """Memories that count how often each is held."""

    def __init__(self) -> None:
        self.known, self.held, self.lock = {}, {}, threading.Lock()

    def take(self, keys):
        with self.lock:
            found = {key: self.known[key] for key in keys if key in self.known}
            self.hold(found.values())
            return found

    def hold(self, handles):
        for handle in handles:
            self.held[handle] = self.held.get(handle, 0) + 1

    def release(self, handles):
        for handle in handles:
            self.held[handle] -= 1


def gathered(wanted_by_thread, fail=()):
    """Run one thread per request; all but the first arrive while the first is read."""
    memories, batches = Counted(), []
    started, go = threading.Event(), threading.Event()

    def read(wanted):
        batches.append(sorted(wanted))
        started.set()
        go.wait(10)
        if set(wanted) & set(fail):
            raise ValueError("cannot be read")
        memories.known |= {key: key.decode() for key in wanted}
        found = {key: memories.known[key] for key in wanted}
        memories.hold(found.values())
        return found

    gathering, results = Gathering(memories, read), {}

    def work(number, wanted):
        try:
            results[number] = gathering.read(wanted)
        except ValueError as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(n, w)) for n, w in enumerate(wanted_by_thread)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(gathering._waiting) < len(threads) - 1:
        pass
    go.set()
    for thread in threads:
        thread.join(10)
    return results, batches, memories


def test_what_arrives_during_a_reading_is_read_in_one_batch():
    requests = [{b"a": (1,)}, {b"b": (2,), b"c": (3,)}, {b"c": (3,), b"d": (4,)}, {b"a": (1,)}]
    results, batches, memories = gathered(requests)
    assert batches == [[b"a"], [b"b", b"c", b"d"]]
    assert all(set(results[n]) == set(wanted) for n, wanted in enumerate(requests))
    assert memories.held == {"a": 2, "b": 1, "c": 2, "d": 1}  # one hold for each request that got it


def test_a_request_that_fails_takes_no_other_with_it():
    results, _, memories = gathered([{b"a": (1,)}, {b"b": (2,)}, {b"bad": (3,)}], fail=(b"bad",))
    assert isinstance(results[2], ValueError)
    assert set(results[1]) == {b"b"}
    assert memories.held == {"a": 1, "b": 1}


def test_nothing_wanted_reads_nothing():
    gathering = Gathering(Counted(), lambda _: pytest.fail("read"))
    assert gathering.read({}) == {}
