"""The metrics give what is counted by hand."""

import math
from dataclasses import replace

import pytest

from ctxshaper import Context, InvalidInputError, LocalGenerator, Passage, Span, Written
from ctxshaper.evaluation.metrics import (
    abstained,
    answer_in_context,
    answer_log_likelihood,
    break_even,
    character_recall,
    disagreement,
    exact_match,
    f1,
    f2,
    passage_recall,
    precision,
    sentence_recall,
    tokens_kept,
)
from ctxshaper.evaluation.paired import interval
from ctxshaper.evaluation.questions import Question, made_up_questions

TEXT = "It is old. Odo built it. It is red."
PASSAGES = (Passage(TEXT, rank=0), Passage("It is long.", rank=1), Passage("Ida was there.", rank=2))
# "Odo built it." and "Ida was there."
QUESTION = Question("Who?", ("Odo",), PASSAGES, frozenset({0, 2}), ((0, Span(11, 24)), (2, Span(0, 14))))


def words(text):
    return len(text.split())


def kept(*spans):
    passages = [PASSAGES[rank].keep([Span(a, b)]) for rank, a, b in spans]
    whole = Context("Who?", PASSAGES, words)
    return whole.with_passages(passages)


@pytest.mark.parametrize(
    ("shaped", "sentences", "characters", "passages", "answer"),
    [
        (kept((0, 0, 35), (1, 0, 11), (2, 0, 14)), 1, 1, 1, 1),
        (kept((0, 11, 24)), 0.5, 0.5, 0.5, 1),
        (kept((0, 11, 17)), 0, 6 / 13 / 2, 0.5, 1),  # "Odo bu"
        (kept((0, 0, 10)), 0, 0, 0, 0),
        (kept((1, 0, 11)), 0, 0, 0, 0),
        (kept(), 0, 0, 0, 0),
    ],
)
def test_evidence_is_counted_by_span(shaped, sentences, characters, passages, answer):
    assert sentence_recall(QUESTION, shaped) == sentences
    assert character_recall(QUESTION, shaped) == pytest.approx(characters)
    assert passage_recall(QUESTION, shaped) == passages
    assert answer_in_context(QUESTION, shaped) == answer


@pytest.mark.parametrize(
    ("shaped", "share", "both"),
    [
        (kept((0, 11, 24), (2, 0, 14)), 1, 1),
        (kept((0, 11, 24)), 1, 5 * 13 / (13 + 4 * 27)),
        (kept((0, 0, 35), (1, 0, 11), (2, 0, 14)), 27 / 60, 5 * 27 / (60 + 4 * 27)),
        (kept((1, 0, 11)), 0, 0),
        (kept(), None, 0),
    ],
)
def test_what_is_kept_beside_the_evidence_counts_a_quarter(shaped, share, both):
    assert precision(QUESTION, shaped) == share
    assert f2(QUESTION, shaped) == pytest.approx(both)


def test_evidence_that_is_marked_twice_counts_once():
    twice = replace(QUESTION, evidence=(*QUESTION.evidence, (0, Span(15, 24))))
    assert precision(twice, kept((0, 11, 24), (2, 0, 14))) == f2(twice, kept((0, 11, 24), (2, 0, 14))) == 1


@pytest.mark.parametrize(
    ("answerable", "threshold", "expected"), [(0.1, 0.2, 1), (0.2, 0.2, 0), (0.1, None, 0), (None, 0.2, 0)]
)
def test_a_recipe_abstains_below_its_threshold_or_by_keeping_nothing(answerable, threshold, expected):
    assert abstained(replace(kept((0, 0, 35)), answerable=answerable), threshold) == expected
    assert abstained(replace(kept(), answerable=answerable), threshold) == 1


def test_where_only_passages_are_marked_anything_of_them_counts():
    question = Question("Who?", (), PASSAGES, frozenset({0, 2}))
    assert passage_recall(question, kept((0, 0, 2))) == 0.5
    assert sentence_recall(question, kept()) is None
    assert character_recall(question, kept()) is None
    assert precision(question, kept()) is f2(question, kept()) is None
    assert answer_in_context(question, kept()) is None
    assert passage_recall(Question("Who?", (), PASSAGES, frozenset()), kept()) is None


def test_a_rewritten_sentence_counts_by_its_support():
    written = PASSAGES[0].rewrite([Written("Built by Odo.", (Span(11, 24),))])
    shaped = Context("Who?", PASSAGES, words).with_passages([written])
    assert sentence_recall(QUESTION, shaped) == passage_recall(QUESTION, shaped) == 0.5
    assert disagreement([shaped, kept((0, 11, 24))]) == 0


def test_tokens_are_of_the_rendered_text():
    assert tokens_kept(kept((1, 0, 11))) == pytest.approx(3 / 15)


def test_a_spelling_with_other_case_and_space_is_in_the_context():
    assert answer_in_context(Question("?", ("ODO  built",), PASSAGES, frozenset()), kept((0, 11, 24))) == 1


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "overlap"),
    [
        ("The Odo!", ["odo"], 1, 1),
        ("Odo the miller", ["Odo", "a miller Odo"], 0, 1),
        ("Odo of Millham", ["Odo"], 0, 0.5),
        ("Ida", ["Odo"], 0, 0),
        ("", ["Odo"], 0, 0),
        ("the", ["a"], 1, 1),
        ("no no no", ["no"], 0, 0.5),
    ],
)
def test_squad_compares(answer, accepted, exact, overlap):
    assert exact_match(answer, accepted) == exact
    assert f1(answer, accepted) == pytest.approx(overlap)


def test_the_likelihood_knows_which_passage_answers():
    generator = LocalGenerator()
    question = made_up_questions()[0]
    gold = Context(question.text, [question.passages[i] for i in question.gold], words)
    none, with_gold, same = answer_log_likelihood(generator, question, [gold.with_passages([]), gold, gold])
    assert none < with_gold == same < 0
    with pytest.raises(InvalidInputError, match="no answer"):
        answer_log_likelihood(generator, Question("Who?", (), (), frozenset()), [])


def test_disagreement_is_the_jaccard_distance():
    same, half, other = kept((0, 0, 20)), kept((0, 10, 30)), kept((1, 0, 11))
    assert disagreement([same, same]) == 0
    assert disagreement([same, half]) == pytest.approx(1 - 10 / 30)
    assert disagreement([same, same, other]) == pytest.approx(2 / 3)
    assert disagreement([kept(), kept()]) == 0


def test_shaping_pays_below_a_speed_and_above_a_price():
    point = break_even(1000, 0.5, 0.36)
    assert point.speed == 2000  # 1,000 tokens at 2,000 a second take the half second that shaping takes
    assert point.price == pytest.approx(0.05)  # 0.5 s of 0.0001 dollars a second for a thousandth of a million
    with pytest.raises(InvalidInputError, match="above 0"):
        break_even(0, 1, 1)


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    import numpy as np

    draws = np.random.default_rng(0).normal(size=(200, 40))
    covered = [low <= 0 <= high for low, high in (interval(d, rounds=500) for d in draws)]
    # 200 trials at 95%: four standard errors are 6%; a bootstrap of 40 is a little narrow.
    assert 0.87 <= sum(covered) / 200 <= 0.99
    assert interval([0.5]) == (0.5, 0.5)
    assert interval(draws[0]) == interval(draws[0])
    assert all(map(math.isfinite, interval([0, 1])))
    with pytest.raises(InvalidInputError, match="at least 1"):
        interval([])
