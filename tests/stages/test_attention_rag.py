"""AttentionRAG: the paper's rule to the letter, and its selection over memories."""

from itertools import pairwise

import numpy as np
import pytest

from ctxshaper import (
    AttentionRAG,
    Budget,
    Context,
    FakeGenerator,
    GeneratorError,
    InvalidInputError,
    LanguageModel,
    Parts,
    Pipeline,
    StageError,
)
from ctxshaper.stages.attention_rag.focal import Focal, FocalReader, FocalReading
from ctxshaper.stages.units import units_of

QUERY, HINT = "Who designed the bridge?", "The bridge was designed by"


def context(reader, passages, budget=None):
    return Context(QUERY, tuple(passages), reader.count_tokens, Budget.parse(budget))


def kept(shaped):
    units = units_of(shaped, "sentence")
    return {(shaped.passages[u.passage].rank, u.span.start, u.span.end) for u in units}


def promoted(passages, tokens):
    """The sentences that hold any of some tokens: (rank, character) pairs."""
    return {
        (u.passage, u.span.start, u.span.end)
        for u in units_of(Context(QUERY, tuple(passages), len), "sentence")
        if any(r == u.passage and u.span.start <= place < u.span.end for r, place in tokens)
    }


def places(readings):
    """(rank, last character) of every token."""
    return [(rank, int(end) - 1) for rank, read in enumerate(readings) for _, end in read.offsets]


@pytest.fixture(scope="module")
def language_model(tiny_model):
    return LanguageModel(tiny_model("llama"), device="cpu", dtype="float32")


def test_evidence_is_kept(reader, passages):
    shaped = AttentionRAG()(context(reader, passages, "40%"), Parts(reader=reader))
    assert "Ada Moreau" in shaped.text
    assert "potassium" not in shaped.text


@pytest.mark.parametrize("k", [1, 3, 6])
def test_the_papers_rule(language_model, reader, passages, k):
    stage = AttentionRAG(reading="chunks", k=k, chunk=25, hint="generic")
    shaped = stage(context(reader, passages), Parts(language_model=language_model))
    hint = shaped.trace.stages[0].notes["hint"]["text"]
    reading = FocalReader(language_model).read(QUERY, hint, passages, 25)
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
    shaped = AttentionRAG(k=k, chunk=25)(context(reader, passages), Parts(reader=reader))
    reading = reader.read(QUERY, passages)
    scores = np.concatenate([p.scores * p.scores.mean() for p in reading.passages])
    count = k * -(-len(scores) // 25)
    best = [places(reading.passages)[i] for i in np.argsort(-scores, kind="stable")[:count]]
    assert kept(shaped) == promoted(passages, best)


@pytest.mark.parametrize("reading", ["independent", "chunks"])
def test_a_growing_budget_only_adds(language_model, reader, passages, reading):
    given, parts = context(reader, passages), Parts(reader=reader, language_model=language_model)
    orders = [kept(AttentionRAG(reading=reading, chunk=25, k=k)(given, parts)) for k in range(1, 9)]
    assert all(a <= b for a, b in pairwise(orders))
    # Under a budget of what k = 2 took, the same sentences are taken.
    small = AttentionRAG(reading=reading, chunk=25, k=2)(given, parts)
    stage = AttentionRAG(reading=reading, chunk=25)
    assert kept(stage(context(reader, passages, small.tokens), parts)) == kept(small)


@pytest.fixture
def gated(monkeypatch):
    """Chooses which chunks the model finds of no use: no small model says "none" by itself."""
    chunks = set()
    read = FocalReader.read

    def scripted(self, query, hint, passages, chunk=300):
        found = read(self, query, hint, passages, chunk)
        focal = tuple(Focal("x", n in chunks or "all" in chunks) for n in range(len(found.focal)))
        return FocalReading(found.passages, found.chunks, focal, found.layers)

    monkeypatch.setattr(FocalReader, "read", scripted)
    return chunks


def test_the_gate_drops_chunks_and_counts(gated, language_model, reader, passages):
    gated.add(0)
    stage = AttentionRAG(reading="chunks", chunk=20, k=20)
    shaped = stage(context(reader, passages), Parts(language_model=language_model))
    notes = shaped.trace.stages[0].notes
    assert notes["gate"] == {"fired": 1, "of": notes["gate"]["of"], "ignored": False}
    assert notes["gate"]["of"] > 1
    assert 0 not in {p.rank for p in shaped.passages}
    assert any(d.reason == "its chunk is of no use" for d in shaped.trace.stages[0].dropped if d.passage == 0)


@pytest.mark.parametrize("budget", [None, "40%"])
def test_a_gate_that_fires_everywhere_is_ignored(gated, language_model, reader, passages, budget):
    gated.add("all")
    stage = AttentionRAG(reading="chunks", chunk=20, k=3)
    shaped = stage(context(reader, passages, budget), Parts(language_model=language_model))
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
def test_a_generator_that_fails_costs_the_hint_not_the_context(reader, language_model, passages, answer, problem):
    parts = Parts(reader=reader, language_model=language_model, generator=FakeGenerator(answer))
    shaped = AttentionRAG(reading="chunks", hint="generator")(context(reader, passages, "40%"), parts)
    assert problem in shaped.trace.stages[0].notes["hint"]["problem"]
    assert shaped.trace.stages[0].notes["hint"]["method"] == "rule"
    assert kept(shaped) == kept(AttentionRAG(reading="chunks")(context(reader, passages, "40%"), parts))


def test_a_generator_that_breaks_is_an_error_or_passed_by(reader, passages):
    stage, broken = AttentionRAG(reading="chunks", hint="generator"), FakeGenerator(TimeoutError("no answer for 30 s"))
    with pytest.raises(StageError, match="no answer for 30 s"):
        Pipeline([stage], reader=reader, generator=broken).shape(QUERY, passages, "90%")
    shaped = Pipeline([stage], reader=reader, generator=broken, on_error="skip").shape(QUERY, passages, "90%")
    assert "no answer for 30 s" in shaped.trace.stages[0].error
    assert {p.rank for p in shaped.passages} == {0, 1, 2}


def test_a_generators_hint_is_used(reader, language_model, passages):
    parts = Parts(reader=reader, language_model=language_model, generator=FakeGenerator(HINT))
    notes = (
        AttentionRAG(reading="chunks", hint="generator")(context(reader, passages, "40%"), parts).trace.stages[0].notes
    )
    assert notes["hint"] == {"text": HINT, "method": "generator", "problem": ""}


def test_what_fits_already_is_not_read(reader, passages):
    given = context(reader, passages, 10_000)
    shaped = AttentionRAG()(given, Parts(reader=reader))
    assert shaped.passages == given.passages
    assert shaped.trace.stages[0].notes == {"fits_already": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"chunk": 0}, "chunk=0"),
        ({"hint": "oracle"}, "oracle"),
        ({"reading": "sideways"}, "sideways"),
        ({"hint": "generator"}, "hint='generator' belongs to reading='chunks'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InvalidInputError, match=message):
        AttentionRAG(**options)
