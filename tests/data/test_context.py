"""The data that flows: spans are byte-exact, budgets are read, JSON round-trips."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import Budget, Context, InvalidInputError, Passage, Rendering, Span, StageTrace, Trace
from ctxshaper.data import join_kept, merge_spans
from ctxshaper.data.trace import Dropped

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)


@st.composite
def text_with_spans(draw):
    text = draw(texts)
    ends = st.integers(0, len(text))
    pairs = draw(st.lists(st.tuples(ends, ends), max_size=6))
    return text, [Span(min(p), max(p)) for p in pairs]


@given(text_with_spans())
def test_what_is_kept_is_what_the_spans_say(case):
    text, spans = case
    kept = Passage(text).keep(spans)
    wanted = {i for s in spans for i in range(s.start, s.end)}
    assert {i for s in kept.spans for i in range(s.start, s.end)} == wanted
    assert all(a.end < b.start for a, b in zip(kept.spans, kept.spans[1:], strict=False))
    assert kept.source == text
    # Every kept piece stands in the text, up to the white space at the seams.
    assert all(text[s.start : s.end].strip() in kept.text for s in kept.spans)


@given(text_with_spans())
def test_merging_is_idempotent(case):
    merged = merge_spans(case[1])
    assert merge_spans(merged) == merged


@given(text_with_spans(), texts)
def test_json_round_trip(case, query):
    text, spans = case
    passage = Passage(text, id="1", score=0.5, metadata={"title": query, "n": [1, None]}).keep(spans)
    trace = Trace((StageTrace("S", 0.1, 5, 3, (Dropped(0, "1", 0, 1, "why", 0.5),), {"a": 1}),))
    context = Context(query, (passage,), len, Budget(tokens=7), Rendering(label="number"), trace)
    back = Context.from_json(context.to_json(), len)
    assert back == context
    assert back.text == context.text


def test_json_that_is_no_context_is_refused():
    for data in ("{}", "[]", "nonsense", '{"query": 1}'):
        with pytest.raises(InvalidInputError, match="not a context"):
            Context.from_json(data, len)


def test_metadata_that_json_cannot_hold_becomes_text():
    passage = Passage("x", metadata={"when": object(), "nan": float("nan"), "set": {1}})
    assert json.loads(json.dumps(passage.to_dict()))["metadata"]["nan"] is None


@pytest.mark.parametrize(
    ("value", "budget"),
    [
        (500, Budget(tokens=500)),
        ("500", Budget(tokens=500)),
        (0.3, Budget(share=0.3)),
        ("30%", Budget(share=0.3)),
        (" 12.5 % ", Budget(share=0.125)),
        ("auto", Budget(adaptive=True)),
        (None, Budget()),
        (Budget(tokens=3), Budget(tokens=3)),
    ],
)
def test_budgets_are_read(value, budget):
    assert Budget.parse(value) == budget


@pytest.mark.parametrize("value", [0, -1, 0.0, 1.5, "0%", "150%", "much", "", True, "-5", "1e3", float("nan")])
def test_bad_budgets_are_refused(value):
    with pytest.raises(InvalidInputError):
        Budget.parse(value)


def test_a_share_is_of_the_input_and_never_rounds_to_nothing():
    assert Budget(share=0.3).limit(10) == 3
    assert Budget(share=0.01).limit(10) == 1
    assert Budget(share=0.5, tokens=4).limit(10) == 4
    assert Budget(adaptive=True).limit(10) is None


@pytest.mark.parametrize("bad", [(-1, 2), (3, 2)])
def test_impossible_spans_are_refused(bad):
    with pytest.raises(InvalidInputError, match="start"):
        Span(*bad)
    with pytest.raises(InvalidInputError, match="outside"):
        Passage("ab").keep([Span(0, 3)])


def test_wrong_types_are_refused_with_the_way_out():
    with pytest.raises(InvalidInputError, match="must be a str"):
        Passage(3)
    with pytest.raises(InvalidInputError, match=r"str\(id\)"):
        Passage("x", id=3)
    with pytest.raises(InvalidInputError, match="connectors"):
        Context("q", ({"text": "x"},), len)


def test_passages_are_immutable_and_leave_the_callers_metadata_alone():
    metadata = {"title": "T"}
    passage = Passage("x", metadata=metadata)
    metadata["title"] = "changed"
    assert passage.title == "T"
    with pytest.raises(TypeError):
        passage.metadata["title"] = "x"
    with pytest.raises(AttributeError):
        passage.text = "y"


def test_a_score_that_is_not_a_number_counts_as_none():
    assert Passage("x", score=float("nan")).score is None


def test_rendering():
    passages = [
        Passage("One. Two. Three.", metadata={"title": "A {title} %s"}).keep([Span(0, 4), Span(10, 16)]),
        Passage("", metadata={"title": "empty"}),
        Passage("  code()\n"),
    ]
    assert Rendering().render(passages) == "A {title} %s\nOne. … Three.\n\n  code()"
    assert (
        Rendering(label="number", separator="\n").render(passages) == "[1] A {title} %s\nOne. … Three.\n[3]\n  code()"
    )
    assert Rendering(label="none", ellipsis=" ").render(passages[:1]) == "One. Three."
    with pytest.raises(InvalidInputError, match="label"):
        Rendering(label="html")


def test_the_seam_swallows_only_white_space():
    assert join_kept("a b c", [Span(0, 2), Span(4, 5)], " … ") == "a … c"
    assert join_kept("a b c", [Span(2, 5)], " … ") == "b c"
    assert join_kept("abc", [], " … ") == ""
