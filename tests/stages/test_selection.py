"""Choosing text: the budget is never exceeded, and what is kept is byte-exact."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctxshaper import Budget, Context, Passage, Rendering, Span, Written
from ctxshaper.data import intersect
from ctxshaper.stages import Log
from ctxshaper.stages.selection import select
from ctxshaper.stages.units import keep, text_of, units_of

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
    units = units_of(context, unit)
    log = Log()
    shaped = select(context, units, [random.random() for _ in units], log, context.limit)
    assert shaped.tokens <= context.limit
    # One decision for each unit; those that are kept are what is kept.
    assert [(d.passage, d.span) for d in log.decisions] == [(context.passages[u.passage].rank, u.span) for u in units]
    assert {d.passage for d in log.decisions if d.kept} == {p.rank for p in shaped.passages}
    assert all(d.reason for d in log.decisions)
    ranks = [p.rank for p in shaped.passages]
    assert ranks == sorted(ranks)
    for passage in shaped.passages:
        original = context.passages[passage.rank]
        assert passage.source == original.source
        assert passage.spans
        assert passage.metadata == original.metadata


def words(text):
    return len(text.split())


def test_units_are_kept_whole_or_dropped_whole():
    context = Context(
        "q", ("The first one costs 3.5 km. The second, e.g. this, is kept. The third is not.",), words, Budget(tokens=8)
    )
    shaped = select(context, units_of(context, "sentence"), [0.1, 0.9, 0.2], Log(), context.limit)
    assert shaped.text == "The second, e.g. this, is kept."


def test_what_does_not_fit_is_passed_over_and_the_reason_is_true():
    text = "A very long sentence that does not fit at all here. Short one. Last one. Two more."
    context = Context("q", (text,), words)
    log = Log()
    shaped = select(context, units_of(context, "sentence"), [2.0, 3.0, 1.0, 0.5], log, 4)
    assert shaped.text == "Short one. Last one."
    assert [(d.kept, d.reason) for d in log.decisions] == [
        (False, "does not fit (11 tokens, 2 left)"),
        (True, "among the best that fit"),
        (True, "among the best that fit"),
        (False, "score too low for the budget"),
    ]


def test_what_several_passages_say_is_kept_once():
    same = "The bridge was opened in 1894."
    titled = [Passage(f"{same} More.", metadata={"title": t}, rank=n) for n, t in enumerate(("A", "A", "B"))]
    context = Context("q", (*titled, Passage("So. The bridge was opened in 1894.", rank=3)), words)
    log = Log()
    units = units_of(context, "sentence")
    shaped = select(context, units, [1.0] * len(units), log, None)
    assert shaped.text.count("opened in 1894") == 2  # another title may make it another fact
    assert [d.reason for d in log.decisions if not d.kept] == ["says the same as passage 0"] * 2
    assert shaped.text.count("More.") == 3


def test_where_the_best_does_not_fit_worse_ones_do_not_take_its_place():
    context = Context("q", ("A very long sentence that does not fit at all here. Short one. Last.",), words)
    log = Log()
    assert select(context, units_of(context, "sentence"), [2.0, 1.0, 0.5], log, 2).text == ""
    assert [d.reason for d in log.decisions] == [
        "does not fit (11 tokens, 2 left)",
        *["ranks behind what does not fit"] * 2,
    ]


@settings(max_examples=200, deadline=None)
@given(contexts(), st.randoms(use_true_random=False), st.integers(0, 8))
def test_a_budget_of_what_the_best_units_take_takes_them(context, random, count):
    units = units_of(context, "sentence")
    assume(len({text_of(context, unit).strip() for unit in units}) == len(units))
    scores = [random.random() for _ in units]
    ranked = [units[i] for i in sorted(range(len(units)), key=lambda i: -scores[i])]
    tokens = [keep(context, ranked[:n]).tokens for n in range(len(ranked) + 1)]
    assume(tokens == sorted(tokens))
    log = Log()
    select(context, units, scores, log, tokens[min(count, len(ranked))])
    kept = {(d.passage, d.span) for d in log.decisions if d.kept}
    assert kept >= {(unit.passage, unit.span) for unit in ranked[:count]}


def test_units_stay_within_what_is_still_kept():
    kept = Passage("One is here. Two is here. Three is here.").keep([Span(0, 13), Span(26, 40)])
    context = Context("q", (kept,), len)
    assert [text_of(context, u) for u in units_of(context, "sentence")] == ["One is here. ", "Three is here."]


def test_a_passage_kept_whole_brings_nothing_back():
    kept = Passage("One is here. Two is here. Three is here.").keep([Span(0, 13), Span(26, 40)])
    context = Context("q", (kept,), len)
    shaped = select(context, units_of(context, "passage"), [1.0], Log(), None)
    assert shaped.text == "One is here. … Three is here."
    assert intersect(shaped.passages[0].spans, kept.spans) == shaped.passages[0].spans


def test_each_written_piece_is_one_unit():
    passage = Passage("One. Two.").rewrite(
        [Written("First.", (Span(0, 4),)), Written("Both.", (Span(0, 4), Span(5, 9)))]
    )
    context = Context("q", (passage,), len)
    units = units_of(context, "sentence")
    assert [(u.span, u.written, text_of(context, u)) for u in units] == [
        (Span(0, 4), 0, "First."),
        (Span(0, 9), 1, "Both."),
    ]
    assert keep(context, units[1:]).text == "Both."
    assert keep(context, units).passages[0] is context.passages[0]
