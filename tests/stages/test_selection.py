"""Choosing text: the budget is never exceeded, and what is kept is byte-exact."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctxshaper import Budget, Context, Passage, Rendering, Span
from ctxshaper.stages import Log
from ctxshaper.stages.base import gaps
from ctxshaper.stages.selection import Candidate, keep, select, units_of

PROSE = st.lists(
    st.sampled_from(
        ["He won 3.5 km. ", "Dr. Who came! ", "東京は大きい。", "- item\n", "\n\n", "x", "| a | b |\n", "\ud800 "]
    ),
    max_size=12,
).map("".join)


@st.composite
def contexts(draw):
    sources = draw(st.lists(PROSE, max_size=4))
    passages = [
        Passage(s, metadata={"title": draw(st.sampled_from(["", "Title"]))}, rank=i) for i, s in enumerate(sources)
    ]
    limit = draw(st.integers(1, 60))
    label = draw(st.sampled_from(["none", "title", "number"]))
    return Context(
        "q", tuple(passages), lambda t: len(t.split()) + len(t) // 7, Budget(tokens=limit), Rendering(label=label)
    )


@settings(max_examples=200, deadline=None)
@given(contexts(), st.randoms(use_true_random=False), st.sampled_from(["sentence", "block", "passage"]))
def test_the_budget_is_never_exceeded(context, random, unit):
    candidates = [
        Candidate(i, span, random.random()) for i, p in enumerate(context.passages) for span in units_of(p, unit)
    ]
    shaped = select(context, candidates, Log(), context.limit)
    assert shaped.tokens <= context.limit
    ranks = [p.rank for p in shaped.passages]
    assert ranks == sorted(ranks)
    for passage in shaped.passages:
        original = context.passages[passage.rank]
        assert passage.source == original.source
        assert passage.spans
        assert passage.metadata == original.metadata


def test_units_are_kept_whole_or_dropped_whole():
    passage = Passage("The first one costs 3.5 km. The second, e.g. this, is kept. The third is not.", rank=0)
    units = units_of(passage, "sentence")
    context = Context("q", (passage,), lambda t: len(t.split()), Budget(tokens=8))
    candidates = [Candidate(0, u, s) for u, s in zip(units, (0.1, 0.9, 0.2), strict=True)]
    shaped = select(context, candidates, Log(), context.limit)
    assert shaped.text == "The second, e.g. this, is kept."


def test_where_nothing_fits_nothing_is_kept_and_the_log_says_so():
    context = Context("q", (Passage("Far too long for this.", rank=0),), len, Budget(tokens=1))
    log = Log()
    shaped = select(context, [Candidate(0, Span(0, 22), 1.0)], log, 1)
    assert shaped.text == ""
    assert "budget of 1" in log.notes["nothing_fits"]


def test_a_unit_that_does_not_fit_is_passed_over_for_one_that_does():
    passage = Passage("A very long sentence that does not fit at all here. Short one.", rank=0)
    units = units_of(passage, "sentence")
    context = Context("q", (passage,), lambda t: len(t.split()), Budget(tokens=3))
    shaped = select(context, [Candidate(0, units[0], 2.0), Candidate(0, units[1], 1.0)], Log(), 3)
    assert shaped.text == "Short one."


@settings(max_examples=200, deadline=None)
@given(contexts(), st.randoms(use_true_random=False), st.integers(0, 8))
def test_a_budget_of_what_the_best_units_take_takes_them(context, random, count):
    candidates = [
        Candidate(i, span, random.random()) for i, p in enumerate(context.passages) for span in units_of(p, "sentence")
    ]
    ranked = sorted(candidates, key=lambda c: -c.score)
    tokens = [keep(context, ranked[:n]).tokens for n in range(len(ranked) + 1)]
    assume(tokens == sorted(tokens))
    log = Log()
    select(context, candidates, log, tokens[min(count, len(ranked))])
    kept = {(k["passage"], k["start"], k["end"]) for k in log.notes["kept"]}
    assert kept >= {(c.passage, c.span.start, c.span.end) for c in ranked[:count]}


def test_units_stay_within_what_is_still_kept():
    passage = Passage("One is here. Two is here. Three is here.")
    kept = passage.keep([Span(0, 13), Span(26, 40)])
    assert [passage.source[s.start : s.end] for s in units_of(kept, "sentence")] == ["One is here. ", "Three is here."]


def test_a_generated_passage_is_one_unit():
    passage = Passage("One. Two.").rewrite("Both.", [Span(0, 4), Span(5, 9)])
    assert units_of(passage, "sentence") == [Span(0, 9)]
    context = Context("q", (passage,), len)
    assert keep(context, [Candidate(0, Span(0, 9), 1.0)]).text == "Both."


def test_gaps_are_what_is_missing():
    assert gaps([Span(0, 10), Span(20, 30)], [Span(2, 4), Span(8, 22)]) == [Span(0, 2), Span(4, 8), Span(22, 30)]
    assert gaps([Span(0, 5)], []) == [Span(0, 5)]
    assert gaps([Span(0, 5)], [Span(0, 5)]) == []
