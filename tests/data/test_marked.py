"""Marks follow the characters of what was kept, through rendering and through +."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import Context, InvalidInputError, Kept, Passage, Rendering, Span, Written
from ctxshaper.data import Marked
from ctxshaper.data.marked import marks_of

TOWER = Passage(
    "  Der Türm — 塔 🗼 — steht. It is tall. Ada built it in 1894.", metadata={"title": "Türm 塔"}, id="a", rank=0
)
BRIDGE = Passage("\n\nThe bridge is old. Bob built it.\n", metadata={"title": "Bridge"}, rank=1)


def shown(text):
    return [text[span.start : span.end] for span in marks_of(text)]


def kept(passage, *pieces):
    spans = [Span(passage.source.index(piece), passage.source.index(piece) + len(piece)) for piece in pieces]
    return passage.keep(spans)


@pytest.mark.parametrize("label", ["none", "title", "number"])
@pytest.mark.parametrize("ellipsis", [" … ", " ", ""])
def test_kept_text_is_marked_in_the_shaped_and_in_the_whole_text(label, ellipsis):
    context = Context("Who?", (TOWER, BRIDGE), len, rendering=Rendering(label=label, ellipsis=ellipsis))
    pieces = [kept(TOWER, "Der Türm — 塔 🗼 — steht.", "Ada built it in 1894."), kept(BRIDGE, "Bob built it.")]
    shaped = context.with_passages(pieces)
    expected = ["Der Türm — 塔 🗼 — steht.", "Ada built it in 1894.", "Bob built it."]
    marked = shaped.marked()
    assert marked == shaped.text
    assert shown(marked) == (expected if ellipsis else ["".join(expected[:2]), expected[2]])
    whole = shaped.marked(whole=True)
    assert whole == context.text
    assert shown(whole) == expected


def test_a_whole_context_is_marked_but_for_headings_and_what_does_not_show():
    context = Context("Who?", (TOWER, BRIDGE), len)
    assert shown(context.marked()) == [TOWER.source, "The bridge is old. Bob built it."]


def test_order_and_dropped_passages_do_not_matter():
    shaped = Context("Who?", (TOWER, BRIDGE), len).with_passages([kept(BRIDGE, "Bob built it.")])
    assert shown(shaped.marked(whole=True)) == ["Bob built it."]
    turned = Context("Who?", (TOWER, BRIDGE), len).with_passages([kept(BRIDGE, "Bob built it."), kept(TOWER, "塔")])
    assert shown(turned.marked()) == ["Bob built it.", "塔"]
    assert shown(turned.marked(whole=True)) == ["塔", "Bob built it."]


def test_what_was_written_is_marked_and_in_the_whole_text_its_support():
    start = BRIDGE.source.index("Bob")
    written = BRIDGE.rewrite([Written("It was Bob.", (Span(start, start + 3),)), Kept(Span(start, start + 13))])
    shaped = Context("Who?", (TOWER, BRIDGE), len).with_passages([written])
    assert "".join(shown(shaped.marked())).replace("\n", "").replace(" ", "") == "ItwasBob.Bobbuiltit."
    assert shown(shaped.marked(whole=True)) == ["Bob built it."]


def test_marks_go_through_plus_and_copies_and_to_all_else_it_is_text():
    marked = "Lies das: " + Marked("äöü 塔!", [Span(4, 5)]) + "\n" + Marked("ja", [Span(0, 2)]) + " nein"
    assert marked == "Lies das: äöü 塔!\nja nein"
    assert shown(marked) == ["塔", "ja"]
    for other in (copy.deepcopy(marked), pickle.loads(pickle.dumps(marked)), Marked(marked, marked.spans)):
        assert (other, other.spans) == (marked, marked.spans)
    assert {marked: 1}["Lies das: äöü 塔!\nja nein"] == 1
    assert type(str(marked)) is str
    assert marks_of(marked.upper()) == marks_of(f"{marked}") == ()


@given(st.lists(st.tuples(st.text(max_size=5), st.booleans()), max_size=6))
def test_plus_is_what_marking_the_whole_is(parts):
    joined, spans = Marked(""), []
    for text, mark in parts:
        spans += [Span(len(joined), len(joined) + len(text))] if mark else []
        joined = joined + (Marked(text, [Span(0, len(text))]) if mark else text)
    expected = Marked("".join(text for text, _ in parts), spans)
    assert (joined, joined.spans) == (expected, expected.spans)


def test_a_range_outside_is_refused():
    with pytest.raises(InvalidInputError, match="outside of a text of 3"):
        Marked("abc", [Span(0, 4)])
