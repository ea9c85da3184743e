"""AttentionRAG: the paper's rule to the letter, and the focal token as one more row over memories."""

from itertools import pairwise

import numpy as np
import pytest

from ctxshaper import (
    AttentionRAG,
    Budget,
    Context,
    FakeGenerator,
    FocalReader,
    GeneratorError,
    InvalidInputError,
    Passage,
    Pipeline,
    StageError,
)
from ctxshaper.reading.focal import Focal, FocalReading
from ctxshaper.stages.selection import units_of

QUERY, HINT = "Who designed the bridge?", "The bridge was designed by"


def context(reader, passages, budget=None):
    ranked = [Passage(p.text, p.id, p.score, p.metadata, rank=i) for i, p in enumerate(passages)]
    return Context(QUERY, tuple(ranked), reader.count_tokens, Budget.parse(budget))


def kept(shaped):
    return {(p.rank, s.start, s.end) for p in shaped.passages for u in units_of(p, "sentence") for s in [u]}


def promoted(passages, tokens):
    """The sentences that hold any of some tokens: (rank, character) pairs."""
    return {
        (rank, s.start, s.end)
        for rank, passage in enumerate(passages)
        for s in units_of(passage, "sentence")
        if any(r == rank and s.start <= place < s.end for r, place in tokens)
    }


def places(readings):
    """(rank, last character) of every token."""
    return [(rank, int(end) - 1) for rank, read in enumerate(readings) for _, end in read.offsets]


@pytest.fixture(scope="module")
def focal(tiny_model):
    return FocalReader(tiny_model("llama"), device="cpu", dtype="float32")


@pytest.mark.parametrize("hint", ["rule", "generic"])
def test_evidence_is_kept(reader, passages, hint):
    shaped = AttentionRAG(reader=reader, hint=hint)(context(reader, passages, "40%"))
    assert "Ada Moreau" in shaped.text
    assert "potassium" not in shaped.text


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_papers_rule(focal, reader, passages, k):
    shaped = AttentionRAG(reading="chunks", k=k, chunk=25, focal=focal, hint="generic")(context(reader, passages))
    hint = shaped.trace.stages[0].notes["hint"]["text"]
    reading = focal.read(QUERY, hint, passages, 25)
    scores = np.concatenate([p.scores for p in reading.passages])
    chunks, where = np.concatenate(reading.chunks), places(reading.passages)
    assert len(reading.focal) > 1
    best = [
        where[i]
        for number, one in enumerate(reading.focal)
        if not one.none
        for i in sorted(np.flatnonzero(chunks == number), key=lambda i: -scores[i])[:k]
    ]
    assert kept(shaped) == promoted(passages, best)


@pytest.mark.parametrize("k", [1, 4])
def test_ours_takes_the_same_number_of_tokens_among_all_chunks(reader, passages, k):
    shaped = AttentionRAG(reader=reader, k=k, chunk=25)(context(reader, passages))
    reading = reader.read(QUERY, passages, hint=shaped.trace.stages[0].notes["hint"]["text"])
    scores = np.concatenate([p.scores * p.scores.mean() for p in reading.passages])
    count = k * -(-len(scores) // 25)
    best = [places(reading.passages)[i] for i in np.argsort(-scores, kind="stable")[:count]]
    assert kept(shaped) == promoted(passages, best)


def test_the_focal_token_is_one_more_row(reader, passages):
    rows = len(reader.encoder.data(QUERY)[0])
    plain, hinted = (
        np.concatenate([p.scores for p in reader.read(QUERY, passages, hint=hint).passages]) for hint in ("", HINT)
    )
    focal = (rows + 1) * hinted.astype(float) - rows * plain.astype(float)
    assert np.abs(focal).max() > 1e-4
    assert focal.min() > -1e-2 * focal.max()


@pytest.mark.parametrize("reading", ["independent", "chunks"])
def test_a_growing_budget_only_adds(focal, reader, passages, reading):
    given = context(reader, passages)
    orders = [
        kept(AttentionRAG(reader=reader, reading=reading, focal=focal, chunk=25, k=k)(given)) for k in range(1, 9)
    ]
    assert all(a <= b for a, b in pairwise(orders))
    # Under a budget of what k = 2 took, the same sentences are taken.
    small = AttentionRAG(reader=reader, reading=reading, focal=focal, chunk=25, k=2)(given)
    stage = AttentionRAG(reader=reader, reading=reading, focal=focal, chunk=25)
    assert kept(stage(context(reader, passages, small.tokens))) == kept(small)


class Scripted(FocalReader):
    """Writes what it is told, and attends to later tokens more."""

    none = ()

    def read(self, query, hint, passages, chunk=300):
        read = super().read(query, hint, passages, chunk)
        focal = tuple(Focal("x", n in self.none or "all" in self.none) for n in range(len(read.focal)))
        return FocalReading(read.passages, read.chunks, focal, read.layers)


@pytest.fixture
def scripted(focal):
    made = Scripted(focal.source.name, device="cpu", dtype="float32")
    made.__dict__["model"] = focal.model
    return made


def test_the_gate_drops_chunks_and_counts(scripted, reader, passages):
    scripted.none = (0,)
    stage = AttentionRAG(reading="chunks", chunk=20, k=20, focal=scripted)
    shaped = stage(context(reader, passages))
    notes = shaped.trace.stages[0].notes
    assert notes["gate"] == {"fired": 1, "of": notes["gate"]["of"], "ignored": False}
    assert notes["gate"]["of"] > 1
    assert 0 not in {p.rank for p in shaped.passages}
    assert any(d.reason == "its chunk is of no use" for d in shaped.trace.stages[0].dropped if d.passage == 0)


@pytest.mark.parametrize("budget", [None, "40%"])
def test_a_gate_that_fires_everywhere_is_ignored(scripted, reader, passages, budget):
    scripted.none = ("all",)
    stage = AttentionRAG(reading="chunks", chunk=20, k=3, focal=scripted)
    shaped = stage(context(reader, passages, budget))
    notes = shaped.trace.stages[0].notes
    assert notes["gate"]["ignored"]
    assert notes["gate"]["fired"] == notes["gate"]["of"] > 1
    assert shaped.tokens > 0


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (GeneratorError("timed out"), "timed out"),
        ("", "nothing"),
        ("x" * 1_000_000, "characters or more"),
        ("Мост спроектировала", "shares no word"),
    ],
)
def test_a_generator_that_fails_costs_the_hint_not_the_context(reader, passages, answer, problem):
    stage = AttentionRAG(reader=reader, hint="generator", generator=FakeGenerator(answer))
    shaped = stage(context(reader, passages, "40%"))
    assert problem in shaped.trace.stages[0].notes["hint"]["problem"]
    assert shaped.trace.stages[0].notes["hint"]["way"] == "rule"
    assert kept(shaped) == kept(AttentionRAG(reader=reader)(context(reader, passages, "40%")))


def test_a_generator_that_breaks_is_an_error_or_passed_by(reader, passages):
    stage = AttentionRAG(hint="generator", generator=FakeGenerator(TimeoutError("no answer for 30 s")))
    with pytest.raises(StageError, match="no answer for 30 s"):
        Pipeline([stage], reader=reader).shape(QUERY, passages, "90%")
    shaped = Pipeline([stage], reader=reader, on_error="skip").shape(QUERY, passages, "90%")
    assert "no answer for 30 s" in shaped.trace.stages[0].error
    assert {p.rank for p in shaped.passages} == {0, 1, 2}


def test_a_generators_hint_is_used(reader, passages):
    stage = AttentionRAG(reader=reader, hint="generator", generator=FakeGenerator(HINT))
    notes = stage(context(reader, passages, "40%")).trace.stages[0].notes
    assert notes["hint"] == {"text": HINT, "way": "generator", "problem": ""}


def test_what_fits_already_is_not_read(reader, passages):
    given = context(reader, passages, 10_000)
    shaped = AttentionRAG(reader=reader)(given)
    assert shaped.passages == given.passages
    assert shaped.trace.stages[0].notes == {"fits_already": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"chunk": 0}, "chunk=0"),
        ({"hint": "oracle"}, "oracle"),
        ({"reading": "sideways"}, "sideways"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InvalidInputError, match=message):
        AttentionRAG(**options)
