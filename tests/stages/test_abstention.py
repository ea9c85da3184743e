"""An adaptive budget keeps nothing where no passage answers, and says so."""

from dataclasses import replace

import pytest

from ctxshaper import Context, EvidenceFilter, HeadProfile, InvalidInputError, Pipeline, Reader
from ctxshaper.reading.abstention import Abstention

QUESTION = "Who designed the Ember Bridge in Lyon?"
ANSWERS = "The Ember Bridge in Lyon was designed by Ada Moreau. It was opened in 1931. Many people walk there."
OTHERS = [
    "Bananas are rich in potassium. They grow in warm countries. Monkeys like to eat them.",
    "The committee met on Tuesday. It adopted the budget for the next year. Nobody spoke against it.",
]


@pytest.fixture(scope="module")
def parts(reader, embedder):
    return {"reader": reader, "embedder": embedder}


@pytest.mark.parametrize("recipe", ["fast", "qa"])
@pytest.mark.parametrize("others", [0, 1, 2])
def test_what_answers_is_kept_among_few_as_among_many(recipe, others, parts):
    shaped = Pipeline.from_recipe(recipe, **parts).shape(QUESTION, [*OTHERS[:others], ANSWERS], "auto")
    assert "Ada Moreau" in shaped.text
    assert shaped.answerable > 0.5


def test_where_nothing_answers_nothing_is_kept_and_it_is_said(parts):
    shaped = Pipeline.from_recipe("qa", **parts).shape(QUESTION, OTHERS, "auto")
    assert shaped.text == ""
    assert shaped.answerable < 0.2
    assert "no passage is likely to answer (probability 0." in shaped.warnings[0]
    assert {decision.reason for decision in shaped.trace.stages[0].decisions} == {"unlikely to be evidence"}
    assert Context.from_json(shaped.to_json(), shaped.count).answerable == shaped.answerable


def test_a_budget_in_tokens_is_filled_all_the_same(parts):
    shaped = Pipeline.from_recipe("qa", **parts).shape(QUESTION, OTHERS, 20)
    assert shaped.text
    assert shaped.answerable < 0.2
    never = Pipeline([EvidenceFilter(embedding=True, bm25=True, abstain=0)], **parts)
    assert never.shape(QUESTION, OTHERS, "auto").text


def test_it_grows_with_the_attention_and_with_the_likeness():
    likely = HeadProfile.shipped("SmolLM2-135M-Instruct").abstention.answerable
    assert likely(0.01, 0.5, None) < likely(0.2, 0.5, None) < likely(0.2, 0.1, None)
    assert likely(0.2, 0.3, 0.2) < likely(0.2, 0.3, 0.7)
    assert 0 <= likely(0.0, 1.0, -1.0) < 1e-6
    assert Abstention((0.0, 1.0)).answerable(0.2, 0.2, 0.9) == 0.5  # no weight for the cosine: it is left out


def test_without_a_calibrated_profile_nothing_is_known_and_nothing_is_left_out(reader):
    bare = Reader(profile=replace(HeadProfile.shipped("SmolLM2-135M-Instruct"), abstention=None))
    shaped = Pipeline.from_recipe("fast", reader=bare).shape(QUESTION, OTHERS, "auto")
    assert shaped.answerable is None
    assert shaped.text


@pytest.mark.parametrize("weights", [(1.0,), (1.0, float("nan")), (1.0, 2.0, 3.0)])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InvalidInputError, match="2 finite weights"):
        Abstention(weights)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_a_threshold_out_of_range_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="abstain must lie between 0 and 1"):
        EvidenceFilter(abstain=wrong)
    with pytest.raises(InvalidInputError, match="answerable must be a probability"):
        Context(QUESTION, (), len, answerable=wrong)
