"""The two filters find what matters, with the real model."""

import numpy as np
import pytest

from ctxshaper import Budget, Context, EvidenceFilter, GemFilter, InvalidInputError, Parts, Passage, Run, Span
from ctxshaper.stages.evidence_filter.scores import Evidence
from ctxshaper.stages.units import units_of

QUERY = "Who designed the bridge?"


def context(reader, passages, budget):
    return Context(QUERY, tuple(passages), reader.count_tokens, Budget.parse(budget))


@pytest.mark.parametrize("options", [{}, {"embedding": True}, {"bm25": True}])
def test_evidence_is_kept(reader, embedder, passages, options):
    parts = Parts(reader=reader, embedder=embedder)
    shaped = EvidenceFilter(**options)(context(reader, passages, "40%"), parts)
    assert "Ada Moreau" in shaped.text
    assert "potassium" not in shaped.text


def test_a_passage_like_the_question_stays_likely_where_the_signals_err(reader, embedder):
    texts = ["Bananas hold potassium. They are yellow.", "The bridge's designer was Ada Moreau. She drew it.", "Rain."]
    run, found = Run(Parts(reader=reader, embedder=embedder)), []
    for order in ([0, 1, 2], [2, 1, 0]):
        given = context(reader, [Passage(texts[i]) for i in order], None)
        units = units_of(given, "sentence")
        evidence = Evidence(given, units, run, embedding=True, bm25=False)
        text = np.array([order[unit.passage] for unit in units])
        mixed = evidence.mixed(evidence.features(), np.where(text == 0, 20.0, 0.0))
        assert np.exp(mixed).sum() == pytest.approx(1)
        found.append({i: float(np.exp(mixed[text == i]).sum()) for i in range(3)})
    assert found[0] == pytest.approx(found[1])
    assert found[0][1] > 0.1  # by the sum of signals alone it would be a billionth
    assert found[0][0] > 0.65


def test_an_adaptive_budget_keeps_the_likely_and_says_how_sure_it_is(reader, passages):
    sure = EvidenceFilter(confidence=0.5)(context(reader, passages, "auto"), Parts(reader=reader))
    surer = EvidenceFilter(confidence=0.99)(context(reader, passages, "auto"), Parts(reader=reader))
    assert "Ada Moreau" in sure.text
    assert sure.tokens < surer.tokens
    assert sure.trace.stages[0].notes["confidence"] >= 0.5
    assert any(d.reason == "unlikely to be evidence" for d in sure.trace.stages[0].dropped)


def test_what_fits_already_is_not_read():
    def unread():
        raise AssertionError("a part was made that nobody needs")

    parts = Parts()
    parts.__dict__["_part"] = lambda *_: unread()
    given = Context(QUERY, ("never read before: fits",), len, Budget(tokens=1000))
    shaped = EvidenceFilter()(given, parts)
    assert shaped.passages == given.passages
    assert shaped.trace.stages[0].notes == {"fits_already": True}


def test_gem_filter_keeps_the_k_best_tokens_in_their_order(reader, passages):
    given = context(reader, passages, None)
    shaped = GemFilter(k=12)(given, Parts(reader=reader))
    reading = reader.read_gem(QUERY, given.passages)
    scores = np.concatenate([p.scores for p in reading.passages])
    best = np.sort(scores)[::-1][:12]
    kept = [
        score
        for passage, read in zip(given.passages, reading.passages, strict=True)
        for (a, b), score in zip(read.offsets, read.scores, strict=True)
        if any(p.rank == passage.rank and any(s.start <= a and b <= s.end for s in p.spans) for p in shaped.passages)
    ]
    np.testing.assert_allclose(sorted(kept, reverse=True), best, rtol=1e-3)


def test_gem_filter_with_k_keeps_the_best_units_of_so_many_tokens(reader, passages):
    given = context(reader, passages, None)
    few, more = (GemFilter(k=k, unit="sentence")(given, Parts(reader=reader)) for k in (3, 30))
    assert 0 < few.tokens < more.tokens < given.tokens
    assert sum(d.kept for d in few.trace.stages[0].decisions) == 1
    assert any("best 3 tokens" in d.reason for d in few.trace.stages[0].dropped)


def test_gem_filter_by_tokens_stays_within_what_is_kept(reader):
    kept = Passage("unbelievable things happened to the bridge").keep([Span(0, 5), Span(20, 28)])
    shaped = GemFilter()(context(reader, [kept], None), Parts(reader=reader))
    assert shaped.text == kept.text == "unbel … happened"


def test_options_that_do_not_exist_are_refused():
    with pytest.raises(InvalidInputError, match="unit"):
        EvidenceFilter(unit="word")
    with pytest.raises(InvalidInputError, match="confidence"):
        EvidenceFilter(confidence=0)
    with pytest.raises(InvalidInputError, match="k >= 1"):
        GemFilter(k=0)
    with pytest.raises(InvalidInputError, match="causal or independent"):
        GemFilter(reading="sideways")
    with pytest.raises(InvalidInputError, match="needs reading causal"):
        GemFilter(reading="independent", calibrated=True)


def test_the_trace_tells_the_reading(reader, passages):
    shaped = EvidenceFilter()(context(reader, passages, "40%"), Parts(reader=reader))
    assert shaped.trace.stages[0].notes["readings"][0]["milliseconds"] > 0


def test_hotpot_evidence_at_thirty_percent(reader, hotpot):
    """A floor well under the figure of the benchmark, on a few questions: a change that breaks reading shows here."""
    stage, parts, kept = EvidenceFilter(), Parts(reader=reader), []
    for entry in hotpot[:6]:
        passages = [
            Passage("".join(sentences), metadata={"title": title}, rank=i)
            for i, (title, sentences) in enumerate(entry["context"])
        ]
        shaped = stage(Context(entry["question"], tuple(passages), reader.count_tokens, Budget(share=0.3)), parts)
        assert shaped.tokens <= shaped.limit
        by_title = {p.title: p for p in shaped.passages}
        for title, index in entry["supporting_facts"]:
            sentences = dict(map(tuple, entry["context"]))[title]
            if index < len(sentences):
                wanted = sentences[index].strip()
                kept.append(title in by_title and wanted in by_title[title].text)
    assert np.mean(kept) >= 0.9  # .947 over all 100 questions
