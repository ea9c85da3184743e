"""What an answer says is found again in the source, character by character, piece by piece."""

import pytest
from corpus import QUESTION, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxshaper import Context, InvalidInputError, Kept, Passage, Rendering, Span, Written
from ctxshaper.connectors.citations import find, map_citation

SOURCE = "The bridge was designed by Ada Moreau. She was born in Lyon.  It is 3.5 km long."
FIRST, SECOND, THIRD = Span(0, 38), Span(39, 60), Span(62, 80)


def context(*passages, **rendering):
    return Context("q", tuple(passages), len, rendering=Rendering(**rendering))


def part(source, *pairs, **fields):
    return Passage(source, **fields).keep([Span(*pair) for pair in pairs])


spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 15)), max_size=4)
texts = st.text(st.sampled_from("ab \n…é𝒳"), max_size=60)
written = st.lists(st.tuples(st.integers(0, 4), st.text("WXYZ", min_size=1, max_size=5)), max_size=3)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(texts, spans, st.sampled_from(["", "T"]), written), max_size=4),
    st.sampled_from(["none", "title", "number"]),
    st.sampled_from([" … ", " ", ""]),
)
def test_every_character_of_the_text_maps_to_the_same_character_of_a_source_or_to_its_pieces_support(
    parts, label, ellipsis
):
    passages = []
    for source, pairs, title, inserted in parts:
        inside = [Span(min(a, len(source)), min(a + n, len(source))) for a, n in pairs]
        pieces = list(Passage(source).keep(inside).pieces)
        for number, (place, text) in enumerate(inserted):
            # Each has a support of its own, so that it can be told by it.
            support = (Span(number, number + 1),) if number < len(source) else ()
            pieces.insert(place, Written(text, support))
        passages.append(Passage(source, metadata={"title": title}).rewrite(pieces))
    shaped = context(*passages, label=label, ellipsis=ellipsis)
    mapped = 0
    for at in range(len(shaped.text)):
        citation = map_citation(shaped, Span(at, at + 1))
        if citation and citation.generated:
            pieces = shaped.passages[citation.passage].pieces
            supports = [p.support for p in pieces if isinstance(p, Written) and shaped.text[at] in p.text]
            assert citation.spans in supports
            assert citation.quotes == ()
        elif citation:
            (span,) = citation.spans
            assert shaped.text[at] == shaped.passages[citation.passage].source[span.start : span.end]
            assert citation.quotes == (shaped.text[at],)
        mapped += citation is not None
    letters = sum(c.isalpha() for *_, body in shaped.rendering.parts(passages) for c in body)
    assert mapped >= letters  # no heading and no ellipsis holds a letter of a body


def test_words_are_found_as_they_stand_then_loosely_then_by_their_longest_run():
    shaped = context(Passage("Bananas."), part(SOURCE, (0, 38), (62, 80), id="b"))
    exact = map_citation(shaped, "designed by Ada Moreau")
    assert (exact.passage, exact.id, exact.rank, exact.spans, exact.exact) == (1, "b", 1, (Span(15, 37),), True)
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


def test_a_written_piece_is_cited_by_its_own_support_and_not_by_its_neighbours():
    pieces = [Written("Moreau designed it.", (FIRST,)), Written("It measures 3.5 km.", (SECOND, THIRD))]
    shaped = context(Passage(SOURCE).rewrite(pieces))
    citation = map_citation(shaped, "Moreau designed")
    assert (citation.spans, citation.quotes, citation.generated) == ((FIRST,), (), True)
    assert map_citation(shaped, "measures 3.5").spans == (SECOND, THIRD)
    both = map_citation(shaped, "designed it. It measures")
    assert (both.spans, both.generated) == ((FIRST, SECOND, THIRD), True)


def test_copied_text_beside_written_text_is_not_generated():
    pieces = [Written("On the bridge:"), Kept(FIRST), Written("It is long.", (THIRD,))]
    shaped = context(Passage(SOURCE).rewrite(pieces))
    copied = map_citation(shaped, "Ada Moreau")
    assert (copied.spans, copied.quotes, copied.generated) == ((Span(27, 37),), ("Ada Moreau",), False)
    heading = map_citation(shaped, "On the bridge")
    assert (heading.spans, heading.quotes, heading.generated) == ((), (), True)
    mixed = map_citation(shaped, "Ada Moreau. It is long")
    assert (mixed.spans, mixed.quotes, mixed.generated) == ((Span(27, 38), THIRD), ("Ada Moreau.",), True)


def test_two_sentences_that_s2a_rewrote_cite_their_own_support(rewriting):
    shaped = rewriting.shape(QUESTION, [Passage(text, id=title) for title, text in TEXTS.items()])
    first, second = (map_citation(shaped, words) for words in ("designed by the engineer", "bridge is 412 metres"))
    source = TEXTS["Ember Bridge"]
    assert [source[s.start : s.end].strip() for s in first.spans] == [source.split(". ")[1] + "."]
    assert [source[s.start : s.end].strip() for s in second.spans] == ["The bridge is 412 metres long."]
    assert first.generated
    assert second.generated


@pytest.mark.parametrize("wrong", ["", "  \n", None, Span(0, 0), Span(3, 4000)])
def test_an_empty_or_foreign_span_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        map_citation(context(Passage(SOURCE)), wrong)


def test_nothing_is_found_in_nothing():
    assert find([], "words") is None
