"""A reader in shards: the scores of one, and a pipeline that does not notice."""

import numpy as np
import psutil
import pytest

from ctxshaper import InvalidInputError, Passage, Pipeline, Reader
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import DeadlineError
from tests.serving.ray_session import started

pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")

from ctxshaper.serving.ray_shards import ShardedReader  # skipped where Ray is missing
from ctxshaper.serving.ray_store import ClusterStore

QUERY = "Who designed the old stone bridge?"
TEXTS = [
    Passage(f"Passage {n} tells of thing {n * n}. The bridge was designed by Ada Moreau. It is the one after {n - 1}.",
            metadata={"title": f"Part {n % 3}"})
    for n in range(12)
]  # fmt: skip
OPTIONS = {"num_cpus": 0.5}


@pytest.fixture(scope="module")
def both(reader, tmp_path_factory):
    """One reader with the embedded model, and two shards of it that share a store of the cluster."""
    started()
    store = ClusterStore(tmp_path_factory.mktemp("cluster") / "keys")
    return reader, ShardedReader(Reader(store=store), 2, OPTIONS), store


def test_scores_and_what_is_kept_are_those_of_one_reader(both):
    reader, sharded, _ = both
    wanted, got = reader.read(QUERY, TEXTS), sharded.read(QUERY, TEXTS)
    assert got.notes["shards"] == 2
    assert (got.notes["cache_misses"], got.notes["from_store"]) == (12, 0)
    assert got.query == QUERY
    for one, other in zip(got.passages, wanted.passages, strict=True):
        assert np.array_equal(one.offsets, other.offsets)
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5, atol=1e-12)
    assert got.on_prefix == pytest.approx(wanted.on_prefix, rel=1e-5)
    # What was asked before is in the shards' memories; the order of passages changes nothing.
    again = sharded.read(QUERY, TEXTS[::-1])
    assert (again.notes["cache_misses"], again.notes["cache_hits"]) == (0, 12)
    for one, other in zip(again.passages, got.passages[::-1], strict=True):
        assert np.array_equal(one.scores, other.scores)
    for budget in ("20%", "50%", "auto"):
        shaped = [Pipeline.from_recipe("fast", reader=r).shape(QUERY, TEXTS, budget) for r in (sharded, reader)]
        assert shaped[0].text == shaped[1].text
        assert [p.spans for p in shaped[0].passages] == [p.spans for p in shaped[1].passages]
        assert shaped[0].answerable == pytest.approx(shaped[1].answerable, rel=1e-5)


def test_it_remembers_counts_and_keeps_what_it_read_in_the_store_of_the_cluster(both):
    reader, sharded, store = both
    before = {space.kind: space.entries for space in store.stat().namespaces}.get("keys", 0)
    texts = [f"An island, number {n}, lies in the sea." for n in range(6)]
    done = sharded.remember([*texts, texts[0]])
    assert (done.passages, done.known, done.read_windows) == (7, 1, 6)
    assert sharded.remember(texts).read_windows == 0
    assert {space.kind: space.entries for space in store.stat().namespaces}["keys"] == before + 6
    assert sharded.count_tokens(QUERY) == reader.count_tokens(QUERY)


def test_nothing_to_read_and_errors_are_those_of_one_reader(both):
    reader, sharded, _ = both
    assert len(sharded.read(QUERY, []).passages) == 0
    assert [len(one.scores) for one in sharded.read(QUERY, ["", "Two words."]).passages] == [
        len(one.scores) for one in reader.read(QUERY, ["", "Two words."]).passages
    ]
    with pytest.raises(InvalidInputError, match="the query is empty"):
        sharded.read(" ", TEXTS)
    late = Deadline(60)
    late.cancel()
    with under(late), pytest.raises(DeadlineError):
        sharded.read(QUERY, TEXTS)
    with under(Deadline(0.02)), pytest.raises(DeadlineError):
        sharded.read(QUERY, [f"{n} " + "A long story of many words goes on. " * 60 for n in range(8)])


def test_what_needs_all_in_sight_is_read_by_one_shard(both):
    reader, sharded, _ = both
    for one, other in zip(
        sharded.read_gem(QUERY, TEXTS[:3]).passages, reader.read_gem(QUERY, TEXTS[:3]).passages, strict=True
    ):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-3, atol=1e-6)


def test_a_shard_that_was_killed_starts_again_and_finds_its_passages_in_the_store(both):
    _, sharded, _ = both
    wanted = sharded.read(QUERY, TEXTS)
    shards = [p for p in psutil.Process().children(recursive=True) if "".join(p.cmdline()).startswith("ray::_Shard")]
    assert len(shards) == 2
    shards[0].kill()
    got = sharded.read(QUERY, TEXTS)
    assert got.notes["cache_misses"] == 0
    assert got.notes["from_store"] > 0
    for one, other in zip(got.passages, wanted.passages, strict=True):
        assert np.array_equal(one.scores, other.scores)


def test_mistakes_are_said_before_anything_starts():
    started()
    with pytest.raises(InvalidInputError, match="at least one shard"):
        ShardedReader(Reader(), 0)
    with pytest.raises(InvalidInputError, match="does not take these options"):
        ShardedReader(Reader(), 1, {"num_cpu": 1})
