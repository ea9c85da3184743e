"""The query's pass by itself: one query's rows do not depend on who else is in the batch."""

import numpy as np
import pytest
import torch

from ctxshaper.reading import query_pass
from ctxshaper.reading.query_pass import QueryPasses
from tests.reading.test_reader import QUERY, tiny_reader

GPU = torch.cuda.is_available()
QUERIES = [QUERY, "Where?", "What is it that bananas are rich in, and why does it matter to us?", "How long is it?"]


@pytest.fixture
def tiny(tiny_model):
    return tiny_reader(tiny_model("llama"), dtype="bfloat16") if GPU else tiny_reader(tiny_model("llama"))


def made(tiny) -> QueryPasses:
    model = tiny._model
    return QueryPasses(model.decoder, model._prefix, model.layout.end, model.heads("evidence"))


def asked(tiny, queries):
    questions = [tiny.layout.question(query) for query in queries]
    return {question.key: (question.ids, question.rows) for question in questions}


def parts(one):
    return one.rows.float().cpu(), one.rest.cpu(), one.on_prefix.cpu()


def close(one, other, bound=2e-3):
    for a, b in zip(parts(one), parts(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05 if GPU else bound, atol=0.05 if GPU else bound)


@pytest.mark.parametrize("most", [2048, 60])  # in one batch, or in several
def test_a_batch_gives_what_each_query_gives_alone(tiny, monkeypatch, most):
    monkeypatch.setitem(query_pass.CHUNK, tiny.device.type, most)
    passes, wanted = made(tiny), asked(tiny, QUERIES)
    together = passes.read(wanted)
    assert set(together) == set(wanted)
    for key in wanted:
        close(together[key], passes.read({key: wanted[key]})[key])


def test_rows_are_the_wanted_ones_and_need_not_stand_together(tiny):
    passes = made(tiny)
    ids, rows = tiny.layout.query(QUERY)
    some = [rows[0], rows[2], rows[-1]]
    whole, picked = passes.read({b"a": (ids, rows)})[b"a"], passes.read({b"b": (ids, some)})[b"b"]
    for a, b in zip(parts(whole), parts(picked), strict=True):
        torch.testing.assert_close(a[:, [0, 2, -1]], b, rtol=0.05, atol=0.05)
    assert picked.rows.shape[1] == 3


def test_what_stands_behind_the_rows_changes_nothing(tiny):
    passes = made(tiny)
    ids, rows = tiny.layout.query(QUERY)
    close(passes.read({b"a": (ids, rows)})[b"a"], passes.read({b"b": (ids[: rows[-1] + 1], rows)})[b"b"], 1e-6)


def test_the_prefix_takes_less_than_prefix_and_query_together(tiny):
    for one in made(tiny).read(asked(tiny, QUERIES)).values():
        assert (one.on_prefix <= one.rest).all()
        assert np.isfinite(one.rest.cpu().numpy()).all()


@pytest.mark.skipif(not GPU, reason="needs an NVIDIA GPU")
def test_shapes_that_return_are_replayed_and_give_the_same(tiny):
    passes, plain = made(tiny), made(tiny)
    plain._graphed = False
    for n in range(6):
        wanted = asked(tiny, [f"{query} {n}" for query in QUERIES])
        got, expected = passes.read(wanted), plain.read(wanted)
        for key in wanted:
            close(got[key], expected[key])
    assert passes._graphs
    single = asked(tiny, [QUERY])
    kept = passes.read(single)
    before = [part.clone() for one in kept.values() for part in parts(one)]
    for n in range(4):
        passes.read(asked(tiny, [QUERY.replace("bridge", f"tower{n}")]))
    after = [part for one in kept.values() for part in parts(one)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))  # later replays write elsewhere
