"""Requests that arrive while another is read: read together, failing apart."""

import threading
import time

import pytest

from ctxshaper import tracing
from ctxshaper.data.deadline import Deadline, check, under
from ctxshaper.errors import DeadlineError
from ctxshaper.reading.request_batcher import RequestBatcher


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


def batched(wanted_by_thread, fail=()):
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

    batcher, results = RequestBatcher(memories, read), {}

    def work(number, wanted):
        try:
            with tracing.span(f"request {number}"):
                results[number] = batcher.read(wanted)
        except ValueError as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=(n, w)) for n, w in enumerate(wanted_by_thread)]
    threads[0].start()
    assert started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(batcher._waiting) < len(threads) - 1:
        pass
    go.set()
    for thread in threads:
        thread.join(10)
    return results, batches, memories


def test_what_arrives_during_a_reading_is_read_in_one_batch():
    requests = [{b"a": (1,)}, {b"b": (2,), b"c": (3,)}, {b"c": (3,), b"d": (4,)}, {b"a": (1,)}]
    results, batches, memories = batched(requests)
    assert batches == [[b"a"], [b"b", b"c", b"d"]]
    assert all(set(results[n]) == set(wanted) for n, wanted in enumerate(requests))
    assert memories.held == {"a": 2, "b": 1, "c": 2, "d": 1}  # one hold for each request that got it


def test_who_waits_has_a_span_that_leads_to_whoever_read_for_it(spans):
    batched([{b"a": (1,)}, {b"b": (2,)}, {b"c": (3,)}])
    requests = {span.context.span_id: span.name for span in spans.get_finished_spans() if span.name[:7] == "request"}
    waits = [span for span in spans.get_finished_spans() if span.name == "ctxshaper.wait"]
    read_by = {requests[span.parent.span_id]: [requests[link.context.span_id] for link in span.links] for span in waits}
    # The second in line took its turn and read for the third; the first read alone, and waited for nobody.
    assert sorted(map(len, read_by.values())) == [0, 1]
    ((served, (server,)),) = ((name, links) for name, links in read_by.items() if links)
    assert {served, server} == {"request 1", "request 2"}


def test_a_request_that_fails_takes_no_other_with_it():
    results, _, memories = batched([{b"a": (1,)}, {b"b": (2,)}, {b"bad": (3,)}], fail=(b"bad",))
    assert isinstance(results[2], ValueError)
    assert set(results[1]) == {b"b"}
    assert memories.held == {"a": 1, "b": 1}


def test_nothing_wanted_reads_nothing():
    batcher = RequestBatcher(Counted(), lambda _: pytest.fail("read"))
    assert batcher.read({}) == {}


class Scene:
    """Requests with deadlines over a batcher whose reading stops at deadlines, passage by passage."""

    def __init__(self, seconds=0.02):
        self.memories, self.seconds, self.started, self.reads = Counted(), seconds, threading.Event(), []
        self.batcher, self.results, self.took, self.threads = RequestBatcher(self.memories, self.read), {}, {}, []

    def read(self, wanted):
        found = {}
        try:
            for key in wanted:
                self.started.set()
                time.sleep(self.seconds)
                check()
                self.reads.append(key)
                self.memories.known[key] = key.decode()
                found |= self.memories.take([key])
        except BaseException:
            self.memories.release(found.values())
            raise
        return found

    def ask(self, name, keys, limit=None):
        def work():
            begun = time.monotonic()
            with under(limit):
                try:
                    self.results[name] = self.batcher.read({key.encode(): (1,) for key in keys})
                except DeadlineError as error:
                    self.results[name] = error
            self.took[name] = time.monotonic() - begun

        thread = threading.Thread(target=work)
        self.threads.append(thread)
        thread.start()
        assert self.started.wait(10)

    def end(self):
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()


def keys(prefix, count):
    return [f"{prefix}{i}" for i in range(count)]


def test_the_thread_that_reads_stops_at_its_own_deadline_and_another_goes_on():
    scene = Scene()
    scene.ask("short", keys("a", 100), Deadline(0.2))
    scene.ask("long", [*keys("a", 20), "b"])
    scene.end()
    assert isinstance(scene.results["short"], DeadlineError)
    assert scene.took["short"] < 1
    assert set(scene.results["long"]) == {k.encode() for k in [*keys("a", 20), "b"]}
    # What was read before the deadline is not read again.
    assert len(scene.reads) == len(set(scene.reads))
    assert sum(scene.memories.held.values()) == 21


def test_a_request_that_waits_leaves_at_its_own_deadline():
    scene = Scene()
    scene.ask("long", keys("a", 50))
    scene.ask("short", ["b"], Deadline(0.1))
    scene.ask("other", ["c"])
    scene.end()
    assert isinstance(scene.results["short"], DeadlineError)
    assert scene.took["short"] < 0.5
    assert set(scene.results["other"]) == {b"c"}
    assert b"b" not in scene.reads
    assert sum(scene.memories.held.values()) == 51


def test_a_cancelled_request_leaves_at_once():
    scene, limit = Scene(), Deadline()
    scene.ask("long", keys("a", 50))
    scene.ask("cancelled", ["b"], limit)
    limit.cancel()
    scene.end()
    assert isinstance(scene.results["cancelled"], DeadlineError)
    assert scene.took["cancelled"] < 0.5
    assert len(scene.results["long"]) == 50


def test_the_reader_of_a_batch_that_is_cancelled_makes_no_other_fail():
    scene, limit = Scene(), Deadline()
    scene.ask("first", ["x"])
    scene.ask("cancelled", keys("a", 50), limit)
    scene.ask("long", keys("b", 5))
    time.sleep(0.2)
    limit.cancel()
    scene.end()
    assert set(scene.results["long"]) == {k.encode() for k in keys("b", 5)}
    assert isinstance(scene.results["cancelled"], DeadlineError) or len(scene.results["cancelled"]) == 50
    assert sum(scene.memories.held.values()) == 6 + (0 if isinstance(scene.results["cancelled"], DeadlineError) else 50)


def test_an_interrupt_leaves_the_batcher_usable():
    memories, calls = Counted(), []

    def read(wanted):
        calls.append(wanted)
        if len(calls) == 1:
            raise KeyboardInterrupt
        memories.known |= {key: key.decode() for key in wanted}
        return memories.take(wanted)

    batcher = RequestBatcher(memories, read)
    with pytest.raises(KeyboardInterrupt):
        batcher.read({b"a": (1,)})
    assert set(batcher.read({b"b": (1,)})) == {b"b"}
    assert calls[1].keys() == {b"b"}
