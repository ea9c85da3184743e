"""What an answer says is found again in the source, character by character."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxshaper import Context, InvalidInputError, Passage, Rendering, Span
from ctxshaper.connectors.citations import find, map_citation, through
from ctxshaper.connectors.records import Outcome, results

SOURCE = "The bridge was designed by Ada Moreau. She was born in Lyon.  It is 3.5 km long."


def context(*passages, **rendering):
    return Context("q", tuple(passages), len, rendering=Rendering(**rendering))


def part(source, *pairs, **fields):
    return Passage(source, **fields).keep([Span(*pair) for pair in pairs])


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=4)
texts = st.text(st.sampled_from("ab \n…é𝒳"), max_size=60)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(texts, spans, st.sampled_from(["", "T"])), max_size=4),
    st.sampled_from(["none", "title", "number"]),
    st.sampled_from([" … ", " ", ""]),
)
def test_every_character_of_the_text_maps_to_the_same_character_of_a_source(parts, label, ellipsis):
    passages = []
    for source, pairs, title in parts:
        inside = [Span(min(a, len(source)), min(a + n, len(source))) for a, n in pairs]
        passages.append(Passage(source, metadata={"title": title}).keep(inside))
    shaped = context(*passages, label=label, ellipsis=ellipsis)
    mapped = 0
    for at in range(len(shaped.text)):
        citation = map_citation(shaped, Span(at, at + 1))
        if citation:
            (span,) = citation.spans
            assert shaped.text[at] == shaped.passages[citation.passage].source[span.start : span.end]
            assert citation.quotes == (shaped.text[at],)
            mapped += 1
    letters = sum(c.isalpha() for *_, body in shaped.rendering.parts(passages) for c in body)
    assert mapped >= letters  # no heading and no ellipsis holds a letter of a body


def test_words_are_found_as_they_stand_then_loosely_then_by_their_longest_run():
    shaped = context(Passage("Bananas."), part(SOURCE, (0, 38), (62, 80), id="b"))
    exact = map_citation(shaped, "designed by Ada Moreau")
    assert (exact.passage, exact.id, exact.spans, exact.exact) == (1, "b", (Span(15, 37),), True)
    loose = map_citation(shaped, '"DESIGNED  by\nada moreau!"')
    assert (loose.spans, loose.exact) == ((Span(15, 37),), True)
    run = map_citation(shaped, "I think it was designed by Ada Moreau, the engineer.")
    assert (run.quotes, run.exact) == (("was designed by Ada Moreau",), False)
    assert map_citation(shaped, "It was made by Moreau") is None
    assert map_citation(shaped, "She was born in Lyon") is None  # dropped, so the generator did not read it


def test_a_quotation_across_dropped_text_has_several_spans():
    shaped = context(part(SOURCE, (0, 38), (62, 80)))
    citation = map_citation(shaped, "Ada Moreau. … It is 3.5")
    assert citation.spans == (Span(27, 38), Span(62, 71))
    assert citation.quotes == ("Ada Moreau.", "It is 3.5")


def test_generated_text_is_cited_by_its_support():
    shaped = context(Passage(SOURCE).rewrite("Moreau designed it.", [Span(0, 38)]))
    citation = map_citation(shaped, "Moreau designed")
    assert (citation.spans, citation.quotes, citation.generated) == ((Span(0, 38),), (), True)


def test_text_that_was_shaped_twice_is_followed_through_both():
    first = Passage(SOURCE, rank=0).keep([Span(0, 38), Span(62, 80)])
    (one,) = results([Passage(SOURCE, rank=0)], Outcome(context(first)), [None])
    second = Passage(one.text, rank=0).keep([Span(15, 59)])
    (two,) = results([Passage(one.text, rank=0)], Outcome(context(second)), [one.record])
    found = list(through(two.record, 0, len(two.text)))
    assert [SOURCE[s.start : s.end] for s, _ in found] == ["designed by Ada Moreau.", "It is 3.5 km long."]
    assert [two.text[at : at + len(s)] for s, at in found] == ["designed by Ada Moreau.", "It is 3.5 km long."]


@pytest.mark.parametrize("wrong", ["", "  \n", Span(0, 0), Span(3, 4000)])
def test_an_empty_or_foreign_span_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        map_citation(context(Passage(SOURCE)), wrong)


def test_nothing_is_found_in_nothing():
    assert find([], "words") is None
