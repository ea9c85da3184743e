"""Attention on a page: each token of the source shows once, with the level that its share has."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import Context, Passage, Span
from ctxshaper.data import Attention, Looked
from ctxshaper.data.page.heat import heated, marks
from tests.data.page.reading import Page, sources


def looked(text, shares):
    """A text's words, each with its share."""
    found, at = [], 0
    for word, share in zip(text.split(" "), shares, strict=True):
        found.append(Looked(at, at + len(word), share))
        at += len(word) + 1
    return tuple(found)


def read(html):
    """What a fragment says; numbers of characters that stand in different elements have no space between them."""
    return Page(f"<div>{html}</div>").root.text.replace(" U+", "U+")


def test_levels_are_the_root_of_the_share_of_the_best_token():
    one = Attention("all heads", (looked("a b c d", [1.0, 0.25, 0.001, 0.0]), looked("e", [0.5])))
    found = marks([one, Attention("layer 1, head 2", ((), looked("e", [3.0])))])
    assert [tuple(mark) for mark in found[0]] == [(0, 1, "a9"), (2, 3, "a4")]
    assert [tuple(mark) for mark in found[1]] == [(0, 1, "a6 b9")]


def test_attention_of_nothing_heats_nothing():
    assert marks([Attention("all heads", (looked("a b", [0.0, 0.0]), ()))]) == {0: [], 1: []}
    assert marks([]) == {}


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6), st.floats(0, 1)), max_size=12))
def test_whatever_overlaps_the_text_stays_whole(text, rows):
    tokens = tuple(Looked(start, min(start + size, len(text)), share) for start, size, share in rows)
    found = marks([Attention("x", (tokens,))]).get(0, [])
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    for cut in (0, len(text) // 3, len(text)):
        halves = heated(text[:cut], 0, found) + heated(text[cut:], cut, found)
        assert read(halves) == read(heated(text, 0, ()))


def test_a_page_shows_what_each_head_looked_at_also_in_what_was_dropped():
    text = "The bridge was designed by Ada Moreau. Bananas are yellow."
    context = Context("Who?", (Passage(text),), len).with_passages([Passage(text).keep([Span(0, 38)])])
    attention = [
        Attention(name, (looked(text, [0, 0.9, 0, 0.2, 0, 0.3, 0.3, 0.4 * place, 0, 0]),))
        for place, name in enumerate(["all heads", "layer 15, head 6 <b>"])
    ]
    page = Page(context.to_html(attention))
    hot = {one.text: one.attrs["class"] for one in page.root.all("b") if "class" in one.attrs}
    assert hot == {"bridge": "a9 b9", "designed": "a4 b4", "Ada": "a5 b5", "Moreau.": "a5 b5", "Bananas": "b6"}
    assert [one.parent.text.strip() for one in page.root.all("input", name="heat")] == [
        "none",
        "all heads",
        "layer 15, head 6 <b>",
    ]
    assert sources(page) == sources(Page(context.to_html()))
    style = page.root.all("style")[0].text
    assert "main:has(#heat2:checked) .b6{--heat:6}" in style
    assert style == Page(context.to_html()).root.all("style")[0].text
