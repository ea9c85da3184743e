"""The pool keeps what is written, bounds what is taken and never frees what is pinned."""

import pytest
import torch

from ctxshaper.errors import InvalidInputError, PoolFullError
from ctxshaper.kernels import query_attention
from ctxshaper.reading.pool import PagedPool


def make(pages=6, slots=4):
    return PagedPool(2, 3, 16, capacity_pages=pages, page_size=slots, dtype=torch.float32)


def test_what_is_written_is_read():
    pool = make()
    runs = [pool.allocate(n) for n in (5, 0, 4, 3)]
    keys, values = torch.randn(2, 3, 12, 16)
    pool.write(1, pool.places(runs), keys, values)
    ids, lengths = pool.request(runs)
    assert lengths.tolist() == [4, 1, 4, 3]
    for pages, written in ((pool.keys, keys), (pool.values, values)):
        held = torch.cat([pages[1, i, :, :n] for i, n in zip(ids.tolist(), lengths.tolist(), strict=True)], 1)
        assert torch.equal(held, written)
    assert not pool.keys[0].any()


def test_the_order_of_passages_does_not_change_a_query():
    torch.manual_seed(0)
    pool = make()
    runs = [pool.allocate(n) for n in (5, 3, 6)]
    pool.write(0, pool.places(runs), *torch.randn(2, 3, 14, 16))
    q, own = torch.randn(2, 6, 16), torch.randn(2, 3, 16)
    one, other = (
        query_attention(q, pool.keys[0], pool.values[0], *pool.request(order), own, own, finite=True)[0]
        for order in (runs, runs[::-1])
    )
    torch.testing.assert_close(one, other)


def test_full_pool_says_what_is_missing():
    pool = make()
    run = pool.allocate(20)
    with pytest.raises(PoolFullError, match="5 tokens need 2 pages of 4; 1 of 6 are free"):
        pool.allocate(5)
    pool.release(run)
    assert pool.free_pages == 6


def test_pinned_pages_outlive_their_release():
    pool = make()
    run = pool.allocate(24)
    pool.pin(run)
    pool.release(run)  # evicted while a request reads it
    with pytest.raises(PoolFullError):
        pool.allocate(1)
    pool.release(run)
    assert pool.free_pages == 6
    with pytest.raises(InvalidInputError, match="released already"):
        pool.release(run)


def test_wrong_sizes_are_refused():
    with pytest.raises(InvalidInputError, match="at least 1"):
        make(pages=0)
    pool = make()
    with pytest.raises(InvalidInputError, match="at least 0"):
        pool.allocate(-1)
    with pytest.raises(InvalidInputError, match=r"needed is \[3, 4, 16\]"):
        pool.write(0, pool.places([pool.allocate(4)]), torch.zeros(3, 5, 16), torch.zeros(3, 5, 16))
