"""The data that flows: spans are byte-exact, budgets are read, JSON round-trips, everything pickles and copies."""

import copy
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import (
    Budget,
    Context,
    Decision,
    InvalidInputError,
    Kept,
    Passage,
    Rendering,
    SetAside,
    Span,
    StageTrace,
    Trace,
    Written,
)
from ctxshaper.data import gaps, intersect, merge_spans

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


@given(text_with_spans(), text_with_spans())
def test_what_was_dropped_never_comes_back(case, other):
    text, spans = case
    kept = Passage(text).keep(spans)
    again = kept.keep([Span(min(s.start, len(text)), min(s.end, len(text))) for s in other[1]])
    assert intersect(again.spans, kept.spans) == again.spans
    # All of what is left is what is left.
    assert kept.keep([Span(0, len(text))]) == kept


def characters(spans):
    return {i for s in spans for i in range(s.start, s.end)}


@given(text_with_spans(), text_with_spans())
def test_gaps_and_intersections_are_those_of_the_characters(first, second):
    ours, theirs = merge_spans(first[1]), merge_spans(second[1])
    assert characters(gaps(ours, theirs)) == characters(ours) - characters(theirs)
    assert characters(intersect(ours, theirs)) == characters(ours) & characters(theirs)


@given(text_with_spans())
def test_merging_is_idempotent(case):
    merged = merge_spans(case[1])
    assert merge_spans(merged) == merged


def context_of(text, spans, query):
    kept = Passage(text, id="1", score=0.5, metadata={"title": query, "n": [1, None]}).keep(spans)
    written = kept.rewrite([Written("Somebody wrote this.", kept.spans), *kept.pieces])
    trace = Trace((StageTrace("S", 0.1, 5, 3, (Decision(0, Span(0, 1), False, "why", 0.5),), {"a": 1}),))
    return Context(
        query,
        (kept, written),
        len,
        Budget(tokens=7),
        Rendering(label="number"),
        trace,
        history=({"role": "user", "content": "Before?"},),
        set_aside=(SetAside(kept, "carries instructions", "S", 0.9),),
        warnings=("something",),
    )


@given(text_with_spans(), texts)
def test_json_round_trip(case, query):
    context = context_of(*case, query)
    back = Context.from_json(context.to_json(), len)
    assert back == context
    assert back.text == context.text


@given(text_with_spans(), texts)
def test_everything_pickles_copies_and_hashes(case, query):
    context = context_of(*case, query)
    for twin in (pickle.loads(pickle.dumps(context)), copy.deepcopy(context), copy.copy(context)):
        assert twin == context
        assert hash(twin) == hash(context)
        assert twin.text == context.text
    passage = context.passages[1]
    assert pickle.loads(pickle.dumps(passage)) == copy.deepcopy(passage) == passage
    assert len({passage, copy.deepcopy(passage)}) == 1
    assert asdict(passage)["source"] == passage.source


def shaped_elsewhere(text):
    return Context("q", (Passage(text, metadata={"title": "T"}),), len)


def test_a_process_pool_returns_a_context():
    with ProcessPoolExecutor(1) as pool:
        context = pool.submit(shaped_elsewhere, "Some text.").result()
    assert context == shaped_elsewhere("Some text.")
    assert context.tokens == len("T\nSome text.")


@pytest.mark.parametrize(
    "data",
    ["{}", "[]", "nonsense", '{"query": 1}', "[" * 100_000, '{"query": NaN}', "\ud800", b"\xff\xfe\x00"],
    ids=range(8),
)
def test_json_that_is_no_context_is_refused(data):
    with pytest.raises(InvalidInputError):
        Context.from_json(data, len)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "forged"}, "not what the passage"),
        ({"pieces": [{"start": 5, "end": 9}, {"start": 0, "end": 3}]}, "sorted"),
        ({"pieces": [{"start": 0, "end": 6}, {"start": 3, "end": 9}]}, "overlap"),
        ({"pieces": [{"start": 0, "end": 1_000_000_004}]}, "outside"),
        ({"pieces": [{"start": 0.5, "end": 2}]}, "whole numbers"),
        ({"pieces": [{"start": True, "end": 2}]}, "whole numbers"),
        ({"pieces": [{"text": "x", "support": [[0, 99]]}]}, "outside"),
        ({"pieces": [{"text": "x", "support": 3}]}, "support"),
        ({"pieces": "all"}, "list"),
        ({"pieces": [3]}, "a piece is"),
        ({"score": "high"}, "must be a number"),
        ({"rank": -1}, "rank"),
        ({"spans": [[0, 3]]}, "has the fields"),
    ],
)
def test_a_passage_that_contradicts_itself_is_refused(change, message):
    data = {**Passage("one two three").to_dict(), **change}
    if "pieces" in change:
        del data["text"]
    with pytest.raises(InvalidInputError, match=message):
        Passage.from_dict(data)


def test_a_forged_text_of_a_context_is_refused():
    data = json.loads(Context("q", (Passage("true"),), len).to_json())
    with pytest.raises(InvalidInputError, match="not what the passages say"):
        Context.from_json(json.dumps({**data, "text": "false"}), len)


def test_infinite_scores_and_keys_that_are_no_text_are_refused():
    with pytest.raises(InvalidInputError, match="finite"):
        Passage("x", score=float("inf"))
    with pytest.raises(InvalidInputError, match=r"str\(key\)"):
        Passage("x", metadata={1: "a", "1": "b"})
    with pytest.raises(InvalidInputError, match="mapping"):
        Passage("x", metadata=[1])


def test_every_passage_of_a_context_has_a_rank_of_its_own():
    context = Context("q", ("a", Passage("b", rank=0), "c"), len)
    assert [p.rank for p in context.passages] == [1, 0, 2]


def test_each_piece_shows_where_it_stands():
    passage = Passage("One. Two. Three.").rewrite(
        [Written("A heading\n"), Kept(Span(0, 5)), Written("Both.", (Span(5, 9), Span(0, 4))), Kept(Span(10, 16))]
    )
    assert passage.text == "A heading\nOne. Both. Three."
    assert [passage.text[p.start : p.start + len(p.text)] for p in passage.placed()] == [
        "A heading\n",
        "One.",
        "Both.",
        "Three.",
    ]
    assert [p.spans for p in passage.placed()] == [(), (Span(0, 4),), (Span(0, 4), Span(5, 9)), (Span(10, 16),)]
    assert passage.generated
    assert passage.keep([Span(0, 4)], written=[2]).text == "One. Both."
    assert passage.keep([Span(0, 16)]).text == "One. … Three."


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
        ("0.3", Budget(share=0.3)),
        (np.int64(500), Budget(tokens=500)),
        (np.float32(0.5), Budget(share=0.5)),
    ],
)
def test_budgets_are_read(value, budget):
    assert Budget.parse(value) == budget


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, 1.5, "0%", "150%", "much", "", True, "-5", "1e3", float("nan"), [1], {}, "9" * 5000, "1.5", "٣"],
)
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
    for passages in (None, "one text", b"x", 3, {"text": "x"}):
        with pytest.raises(InvalidInputError, match="must be a list"):
            Context("q", passages, len)


def test_passages_are_immutable_and_leave_the_callers_metadata_alone():
    metadata = {"title": "T"}
    passage = Passage("x", metadata=metadata)
    metadata["title"] = "changed"
    assert passage.title == "T"
    with pytest.raises(TypeError):
        passage.metadata["title"] = "x"
    with pytest.raises(AttributeError):
        passage.source = "y"


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
    assert Passage("a b c").keep([Span(0, 2), Span(4, 5)]).text == "a … c"
    assert Passage("a b c").keep([Span(2, 5)]).text == "b c"
    assert Passage("abc").keep([]).text == ""


@pytest.mark.parametrize(
    ("budget", "said"),
    [(500, "500 tokens"), ("30%", "30%"), ("auto", "auto"), (None, "no limit"), (Budget(7, 0.125), "7 tokens, 12.5%")],
)
def test_a_budget_says_what_it_is(budget, said):
    assert str(Budget.parse(budget)) == said
