"""Many queries at once, many shards, many threads: the scores of single calls."""

import pickle
import threading

import numpy as np
import pytest

from ctxshaper import HeadProfile, InvalidInputError
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import DeadlineError
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.profile import Head
from ctxshaper.reading.scoring import merge
from tests.reading.test_reader import PROFILE, QUERY, TEXTS, tiny_reader

QUERIES = [QUERY, "What are bananas rich in?", "Where?", "Who was it that designed the old stone bridge in the north?"]
PASSAGES = [f"Passage {n} tells of thing {n * n} and of the bridge. It is the one after {n - 1}." for n in range(14)]
CONTRAST = HeadProfile("tiny", (Head(1, 2), Head(2, 1)), filter_layer=1, contrast=True)


def close(one, other):
    for a, b in zip(one.passages, other.passages, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("profile", [PROFILE, CONTRAST])
def test_a_batch_gives_the_scores_of_single_calls(tiny_model, profile):
    folder = tiny_model("llama")
    requests = [(query, PASSAGES[n : n + 3]) for n, query in enumerate(QUERIES)]
    together = tiny_reader(folder, profile=profile)
    batch = together.read_batch(requests)
    single = tiny_reader(folder, profile=profile)
    for (query, passages), got in zip(requests, batch, strict=True):
        assert got.query == query
        close(got, single.read(query, passages))
    assert together.read_batch([]) == []


def test_a_batch_runs_queries_and_passages_once(tiny_model, monkeypatch):
    reader = tiny_reader(tiny_model("llama"))
    reader.read("Warm up.", ["once"])
    runs = []
    forward = reader.decoder.forward
    monkeypatch.setattr(reader.decoder, "forward", lambda ids, *rest: (runs.append(ids.shape[1]), forward(ids, *rest)))
    reader.read_batch([(query, PASSAGES) for query in QUERIES])
    assert len(runs) == 2  # all queries' passes, and all passages' prefill
    reader.read_batch([(query, PASSAGES) for query in QUERIES])
    assert len(runs) == 2  # both are remembered


def test_a_batch_larger_than_the_memory_gives_the_same(tiny_model):
    folder = tiny_model("llama")
    requests = [(query, PASSAGES[n : n + 3]) for n, query in enumerate(QUERIES)]
    wanted = tiny_reader(folder).read_batch(requests)
    for one, other in zip(tiny_reader(folder, cache_bytes=0).read_batch(requests), wanted, strict=True):
        close(one, other)


@pytest.mark.parametrize("profile", [PROFILE, CONTRAST])
@pytest.mark.parametrize("shards", [1, 2, 7])
def test_shards_merge_to_the_whole(tiny_model, profile, shards):
    folder = tiny_model("llama")
    whole = tiny_reader(folder, profile=profile).read(QUERY, PASSAGES)
    readers = [tiny_reader(folder, profile=profile) for _ in range(min(shards, 2))]
    rows = QueryRows.from_bytes(readers[0].query_rows(QUERY).to_bytes())  # as it travels
    parts = [PASSAGES[n::shards] for n in range(shards)]
    owners = [readers[n % len(readers)] for n in range(shards)]
    partials = [owner.partial(rows, part) for owner, part in zip(owners, parts, strict=True)]
    merged = merge(rows, pickle.loads(pickle.dumps(partials)))  # our own
    for n, (owner, part) in enumerate(zip(owners, parts, strict=True)):
        for got, wanted in zip(owner.read_rows(rows, part, merged).passages, whole.passages[n::shards], strict=True):
            np.testing.assert_allclose(got.scores, wanted.scores, rtol=1e-4, atol=1e-8)


def test_a_shard_without_passages_changes_nothing(tiny_model):
    reader = tiny_reader(tiny_model("llama"))
    rows = reader.query_rows(QUERY)
    merged = merge(rows, [reader.partial(rows, TEXTS), reader.partial(rows, [])])
    close(reader.read_rows(rows, TEXTS, merged), reader.read(QUERY, TEXTS))
    assert reader.read_rows(rows, [], merged).passages == ()


def test_rows_of_another_profile_are_refused(tiny_model):
    folder = tiny_model("llama")
    wide = HeadProfile("tiny", tuple(Head(1, head) for head in range(4)), filter_layer=1)
    narrow = HeadProfile("tiny", (Head(1, 0),), filter_layer=1)
    rows = tiny_reader(folder, profile=wide).query_rows(QUERY)
    with pytest.raises(InvalidInputError, match="same model and profile"):
        tiny_reader(folder, profile=narrow).read_rows(rows, TEXTS)


def test_threads_with_queries_of_their_own_share_passes(tiny_model):
    folder = tiny_model("llama")
    reader, single, results = tiny_reader(folder), tiny_reader(folder), {}

    def work(n):
        results[n] = reader.read(QUERIES[n % 4] + str(n), PASSAGES[n : n + 4])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(10):
        close(results[n], single.read(QUERIES[n % 4] + str(n), PASSAGES[n : n + 4]))


def test_a_deadline_ends_a_reading_and_what_was_read_is_kept(tiny_model, monkeypatch):
    from ctxshaper.reading import prefill

    monkeypatch.setitem(prefill.CHUNK, "cpu", 64)
    reader = tiny_reader(tiny_model("llama"))
    wanted = tiny_reader(tiny_model("llama")).read(QUERY, PASSAGES)
    reader.read(QUERY, ["warm"])
    limit, runs = Deadline(), []
    run = reader.decoder.run

    def counted(*args):
        runs.append(args)
        if len(runs) == 3:
            limit.cancel()
        return run(*args)

    monkeypatch.setattr(reader.decoder, "run", counted)
    with under(limit), pytest.raises(DeadlineError):
        reader.read(QUERY, PASSAGES)
    first = len(runs)
    got = reader.read(QUERY, PASSAGES)
    again = len(runs) - first
    close(got, wanted)
    tiny = tiny_reader(tiny_model("llama"))
    monkeypatch.setattr(tiny.decoder, "run", lambda *args: (runs.append(args), run(*args))[1])
    before = len(runs)
    tiny.read(QUERY, PASSAGES)
    assert again < len(runs) - before - 1  # without the tiny reader's own prefix
