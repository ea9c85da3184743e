"""Answers that cite by number lead back to the passage of that number."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxshaper import InvalidInputError, Passage, Span
from ctxshaper.connectors.blocks import map_numbers
from tests.connectors.blocks.made import SOURCE, context, contexts


def numbered(*passages):
    return context(*passages, label="number")


SHAPED = numbered(Passage(SOURCE, id="a"), Passage("Bananas are yellow.", id="b"))


def test_each_number_cites_the_words_in_front_of_it():
    answer = "It was designed by Ada Moreau [1] and is 3.5 km long [1, 2]. Bananas are yellow. [2]"
    found = map_numbers(SHAPED, answer)
    assert [entry.number for entry in found] == [1, 1, 2, 2]
    said = [answer[entry.at.start : entry.at.end] for entry in found]
    assert said == ["It was designed by Ada Moreau", *["and is 3.5 km long"] * 2, "Bananas are yellow."]
    assert [entry.citation.id for entry in found] == ["a", "a", "b", "b"]
    assert [entry.citation.quotes for entry in found[:2]] == [("was designed by Ada Moreau",), ("is 3.5 km long",)]
    assert (found[3].citation.spans, found[3].citation.exact) == ((Span(0, 19),), True)


def test_what_a_passage_does_not_repeat_cites_all_of_it():
    (entry,) = map_numbers(SHAPED, "The fruit has the colour of the sun【2】.")
    assert (entry.citation.quotes, entry.citation.exact) == (("Bananas are yellow.",), False)


def test_a_number_that_was_made_up_has_no_citation():
    assert [(e.number, e.citation) for e in map_numbers(SHAPED, "So it is [7], in [2024].")] == [
        (7, None),
        (2024, None),
    ]
    assert map_numbers(SHAPED, "No number [at] all [1.5] (2).") == []
    assert map_numbers(SHAPED, "") == []
    assert map_numbers(SHAPED, "[1]")[0].citation.exact is False


def test_dropped_passages_keep_the_numbers_of_the_others():
    shaped = numbered(Passage(""), Passage("Bananas are yellow.", id="b"))
    assert shaped.text.startswith("[2]")
    assert [entry.citation and entry.citation.id for entry in map_numbers(shaped, "Yellow [1][2].")] == [None, "b"]


def test_numbers_mean_nothing_where_they_were_not_shown():
    with pytest.raises(InvalidInputError, match="number"):
        map_numbers(context(Passage(SOURCE)), "So [1].")


@settings(max_examples=100, deadline=None)
@given(contexts(), st.lists(st.sampled_from(["One fact", "[1]", "[2, 3]", ". ", "\n", "橋です。", "[", "]", " "])))
def test_any_answer_gives_sound_entries(shaped, words):
    shaped, answer = numbered(*shaped.passages), "".join(words)
    for entry in map_numbers(shaped, answer):
        assert 0 <= entry.at.start <= entry.at.end <= len(answer)
        if entry.citation:
            assert entry.citation.passage == entry.number - 1
            source = shaped.passages[entry.citation.passage].source
            assert all(span.end <= len(source) for span in entry.citation.spans)


def test_the_work_is_linear():
    answer = "[" * 50_000 + "[1, " * 20_000 + "So it is [1]. " * 200
    started = time.process_time()
    assert len(map_numbers(SHAPED, answer)) == 200
    assert time.process_time() - started < 5
