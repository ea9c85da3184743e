"""Requests that meet: they share the reader's passes, give what single calls give, and fail and end apart."""

import asyncio
import threading
import time

import numpy as np
import pytest

from ctxshaper import DeadlineError, EvidenceFilter, InvalidInputError, Pipeline
from ctxshaper.reading.attention import ReadQueries
from tests.reading.test_reader import tiny_reader

COUNT = 16
REQUESTS = [
    (f"Who built the bridge number {n}?", [f"Bridge {n} was built by mason {n * n}. It rained for {n} days."])
    for n in range(COUNT)
]


def pipeline_of(folder) -> Pipeline:
    pipeline = Pipeline([EvidenceFilter()], reader=tiny_reader(folder), budget=15)
    pipeline.shape("Is it warm?", ["It is warm. It is cold. It is neither of the two, as far as anybody can tell."])
    return pipeline


def scores_of(context):
    return [decision.score for decision in context.trace.stages[0].decisions]


class Passes:
    """Counts a reader's forward passes; the first of each kind may wait until others have arrived."""

    def __init__(self, pipeline, monkeypatch, others=0):
        model = pipeline.parts.reader._model
        self.others, self.queries, self.passages = others, [], []
        self.batchers = (model.questions("evidence")._batcher, model.shelf._batcher)
        self.forward = model.decoder.forward
        monkeypatch.setattr(model.decoder, "forward", self)

    def __call__(self, ids, positions, call):
        asked = isinstance(call, ReadQueries)
        seen, batcher = (self.queries, self.batchers[0]) if asked else (self.passages, self.batchers[1])
        seen.append(ids.shape[1])
        end = time.monotonic() + 20
        while len(seen) == 1 and len(batcher._waiting) < self.others and time.monotonic() < end:
            time.sleep(0.001)
        return self.forward(ids, positions, call)


def as_batch(pipeline):
    return pipeline.shape_batch(REQUESTS)


def awaited_batch(pipeline):
    return asyncio.run(pipeline.ashape_batch(REQUESTS))


def awaited_apart(pipeline):
    async def run():
        return await asyncio.gather(*(pipeline.ashape(*request) for request in REQUESTS))

    return asyncio.run(run())


# An event loop computes in a few threads, by default cores + 4: so many meet.
@pytest.mark.parametrize(("ask", "others"), [(as_batch, COUNT - 1), (awaited_batch, 3), (awaited_apart, 3)])
def test_requests_that_meet_share_passes_and_give_what_single_calls_give(tiny_model, monkeypatch, ask, others):
    folder = tiny_model("llama")
    single, together = pipeline_of(folder), pipeline_of(folder)
    wanted = [single.shape(*request) for request in REQUESTS]
    passes = Passes(together, monkeypatch, others)
    got = ask(together)
    for one, other in zip(got, wanted, strict=True):
        assert one.query == other.query
        # The sums of a batch are rounded otherwise than those of one row.
        np.testing.assert_allclose(scores_of(one), scores_of(other), rtol=1e-3, atol=1e-6)
        assert one.text == other.text
    assert len(passes.queries) <= COUNT - others + 1
    assert len(passes.passages) <= COUNT - others + 1


def test_sixteen_at_once_take_two_passes_of_queries_and_two_of_passages(tiny_model, monkeypatch):
    pipeline = pipeline_of(tiny_model("llama"))
    passes = Passes(pipeline, monkeypatch, COUNT - 1)
    pipeline.shape_batch(REQUESTS)
    # The first to come goes at once, and the others meet while it runs.
    assert (len(passes.queries), len(passes.passages)) == (2, 2)


def test_a_lone_request_waits_for_nobody(tiny_model, monkeypatch):
    pipeline = pipeline_of(tiny_model("llama"))
    passes = Passes(pipeline, monkeypatch)
    monkeypatch.setattr(threading.Condition, "wait", lambda *_: pytest.fail("waited"))
    pipeline.shape(*REQUESTS[0])
    assert (len(passes.queries), len(passes.passages)) == (1, 1)


def test_a_request_whose_pass_fails_hurts_no_other(tiny_model, monkeypatch):
    folder = tiny_model("llama")
    wanted = [pipeline_of(folder).shape(*request) for request in REQUESTS]
    pipeline = pipeline_of(folder)
    reader, bad = pipeline.parts.reader, 5
    key = reader.layout.question(REQUESTS[bad][0]).key
    passes = reader._model.questions("evidence")._passes
    read = passes.read

    def failing(asked):
        if key in asked:
            raise ValueError("planned")
        return read(asked)

    monkeypatch.setattr(passes, "read", failing)
    results = {}

    def work(n):
        try:
            results[n] = pipeline.shape(*REQUESTS[n])
        except Exception as error:  # noqa: BLE001  # looked at below
            results[n] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(COUNT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert "planned" in str(results[bad])
    for n in set(range(COUNT)) - {bad}:
        assert results[n].text == wanted[n].text


def test_a_batch_raises_the_error_of_its_first_bad_request(tiny_model):
    pipeline = pipeline_of(tiny_model("llama"))
    with pytest.raises(InvalidInputError, match="query"):
        pipeline.shape_batch([*REQUESTS[:3], ("  ", ["text"]), *REQUESTS[3:]])
    assert pipeline.shape_batch([]) == []


def test_who_waits_for_a_batch_leaves_at_its_own_deadline(tiny_model, monkeypatch):
    pipeline = pipeline_of(tiny_model("llama"))
    held, go = threading.Event(), threading.Event()
    decoder = pipeline.parts.reader.decoder
    forward = decoder.forward

    def holding(*inputs):
        held.set()
        go.wait(20)
        return forward(*inputs)

    monkeypatch.setattr(decoder, "forward", holding)
    results = []
    first = threading.Thread(target=lambda: results.append(pipeline.shape(*REQUESTS[0])))
    first.start()
    assert held.wait(20)
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        pipeline.shape(*REQUESTS[1], timeout=0.2)
    assert time.monotonic() - started < 10
    go.set()
    first.join(20)
    assert len(results) == 1


@pytest.mark.parametrize("awaited", [False, True])
def test_the_timeout_of_a_batch_is_for_all_of_it(tiny_model, monkeypatch, awaited):
    pipeline = pipeline_of(tiny_model("llama"))
    forward = pipeline.parts.reader.decoder.forward
    slow = lambda *inputs: (time.sleep(0.2), forward(*inputs))[1]  # noqa: E731
    monkeypatch.setattr(pipeline.parts.reader.decoder, "forward", slow)
    requests = REQUESTS * 20
    with pytest.raises(DeadlineError):
        asyncio.run(pipeline.ashape_batch(requests, timeout=0.3)) if awaited else pipeline.shape_batch(
            requests, timeout=0.3
        )
