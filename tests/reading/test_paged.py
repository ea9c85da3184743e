"""Memories in pages against memories as joined tensors: the same scores, and a bounded pool that leaks nothing."""

import numpy as np
import pytest

from ctxshaper import InvalidInputError, Reader
from ctxshaper.reading.paged import PagedCache
from tests.reading.test_reader import QUERY, TEXTS, tiny_reader

LONG = [*TEXTS, " ".join(f"word{i} is number {i}." for i in range(60))]


def paged_reader(folder, max_bytes: int = 2**26) -> Reader:
    reader = tiny_reader(folder)
    reader.__dict__["cache"] = PagedCache(max_bytes, reader._prefix)
    return reader


@pytest.mark.parametrize("gem", [False, True])
def test_pages_give_the_scores_of_joined_memories(tiny_model, gem):
    folder = tiny_model("llama")
    one, other = tiny_reader(folder), paged_reader(folder)

    def read(reader):
        return reader.read_gem(QUERY, LONG, independent=True) if gem else reader.read(QUERY, LONG)

    for _ in range(2):
        for a, b in zip(read(one).passages, read(other).passages, strict=True):
            np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3, atol=1e-3 if gem else 1e-6)


def test_a_full_pool_forgets_the_oldest_and_leaks_no_page(tiny_model, monkeypatch):
    folder = tiny_model("llama")
    wanted = tiny_reader(folder).read(QUERY, TEXTS)
    keys = tiny_reader(folder)._prefix[0][0]
    page = 2 * 4 * keys.shape[0] * 64 * keys.shape[2] * 4
    reader = paged_reader(folder, max_bytes=5 * page)  # the prefix, three passages, and one page
    for round_ in range(4):
        got = reader.read(QUERY, TEXTS)
        for a, b in zip(got.passages, wanted.passages, strict=True):
            np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3, atol=1e-6)
        reader.read(QUERY, [f"Another passage, number {round_}.", "And one more of them."])
    pool = reader.cache.pool
    assert reader.cache.nbytes <= 5 * page
    with pytest.raises(InvalidInputError, match="raise cache_bytes"):
        reader.read(QUERY, LONG)
    assert len(reader.read(QUERY, TEXTS).passages) == 3

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(reader.decoder, "run", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        reader.read(QUERY, ["New words."])
    reader.cache.clear()
    assert pool.free_pages == pool.capacity_pages - 1  # the prefix stays


def test_too_small_a_pool_is_refused(tiny_model):
    with pytest.raises(InvalidInputError, match="at least 2 are needed"):
        PagedCache(1000, tiny_reader(tiny_model("llama"))._prefix)
