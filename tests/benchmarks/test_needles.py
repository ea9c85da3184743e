"""Needles share no word with their questions, and each lies where it is said to."""

import pytest

from benchmarks.needles import haystack, long_document, needles
from benchmarks.questions import DATA, HOTPOT, load
from ctxshaper import FakeReader
from ctxshaper.text.terms import terms


def test_no_needle_shares_a_word_of_content_with_its_question():
    stopwords = set(pytest.importorskip("bm25s.stopwords").STOPWORDS_EN)
    found = needles()
    assert len(found) == len({one["needle"] for one in found}) == 40
    for one in found:
        shared = set(terms(one["needle"])) & set(terms(one["ask"])) - stopwords
        assert not shared, one


def test_a_haystack_holds_each_needle_once_and_repeats():
    questions = haystack(3)
    again = haystack(3)
    assert [q.passages for q in questions] == [q.passages for q in again] != [q.passages for q in haystack(4)]
    places = set()
    for question, one in zip(questions, needles(), strict=True):
        ((rank, span),) = question.evidence
        said = question.passages[rank].source[span.start : span.end]
        before, after = one["needle"].split("{name}")
        assert said.startswith(before)
        assert said.endswith(after)
        assert sum(said in passage.source for passage in question.passages) == 1
        assert question.gold == {rank}
        places.add(rank)
    assert len(places) == 40


@pytest.mark.skipif(not DATA.is_dir(), reason="the labelled questions are not beside this checkout")
def test_a_long_document_is_as_long_as_asked_and_its_evidence_is_found():
    questions = load(DATA, [HOTPOT])[HOTPOT]
    reader = FakeReader()
    found = long_document(questions, 12_000, 4, reader)
    assert [q.text for q in found] == [q.text for q in questions[:4]]
    tokens = sum(reader.count_tokens(p.source) for p in found[0].passages)
    assert 12_000 <= tokens < 14_000
    for question, own in zip(found, questions, strict=False):
        said = {question.passages[r].source[s.start : s.end].strip() for r, s in question.evidence}
        wanted = {own.passages[r].source[s.start : s.end].strip() for r, s in own.evidence}
        # A sentence may lie over the border of two passages.
        assert len(said & wanted) >= len(wanted) - 1
