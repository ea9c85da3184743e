"""The weights of abstention are found where they are known, and a profile carries them to the stages."""

from dataclasses import replace

import numpy as np
import pytest

from ctxshaper import HeadProfile, InvalidInputError, Parts, Pipeline, Reader
from ctxshaper.calibration.abstention import KINDS, auroc, fit, signals_of
from ctxshaper.calibration.made_up import synthetic_questions


def made(answered, unanswered, count=400, seed=0):
    """Signals drawn around means of ours: both columns, spread 1."""
    draw = np.random.default_rng(seed).normal(size=(count, len(KINDS), 2))
    return draw + np.array([answered, unanswered, unanswered])[None]


def test_known_weights_are_found():
    # Two normal clouds of spread 1: the log-odds are linear, with the difference of the means as weights.
    found = fit(made((1.0, 0.5), (-1.0, -0.5))).abstention
    assert found.with_cosine == pytest.approx((0.0, 2.0, 1.0), abs=0.35)
    assert found.attention == pytest.approx((0.0, 2.0), abs=0.35)


def test_what_parts_nothing_refuses_nothing_and_what_parts_all_refuses_all():
    blind = fit(made((0.0, 0.0), (0.0, 0.0)))
    assert blind.separation["hard"] == pytest.approx(0.5, abs=0.06)
    assert blind.by_threshold[0] == {"abstain": 0.1, "answered": 0.0, "hard": 0.0, "random": 0.0}
    clear = fit(made((9.0, 9.0), (-9.0, -9.0)))
    assert clear.separation == {"hard": 1.0, "random": 1.0}
    assert clear.by_threshold[-1] == {"abstain": 0.5, "answered": 0.0, "hard": 1.0, "random": 1.0}


def test_questions_without_a_hard_context_count_for_the_rest():
    signals = made((1.0, 0.5), (-1.0, -0.5))
    signals[::2, 1] = np.nan
    assert fit(signals).abstention.with_cosine == pytest.approx((0.0, 2.0, 1.0), abs=0.35)


def test_ties_count_half():
    assert auroc(np.array([1.0, 2.0, np.nan]), np.array([1.0])) == 0.75


def test_one_question_is_too_few(reader):
    with pytest.raises(InvalidInputError, match="2 questions with known evidence or more, but got 1"):
        signals_of(synthetic_questions(1), Parts(reader=reader), embedding=False)


def test_a_profile_carries_them_to_the_stage(reader, tmp_path):
    signals = signals_of(synthetic_questions(4), Parts(reader=reader), embedding=False)
    assert signals.shape == (4, 3, 1)
    assert (signals[:, 0] > signals[:, 2]).all()  # the answer draws more than what stands elsewhere
    found = fit(signals, folds=2).abstention
    path = tmp_path / "heads.json"
    replace(HeadProfile.shipped("SmolLM2-135M-Instruct"), abstention=found).save(path)
    assert HeadProfile.load(path).abstention == found
    question = synthetic_questions(1)[0]
    shaped = Pipeline.from_recipe("fast", reader=Reader(profile=path)).shape(question.query, question.passages, "auto")
    assert shaped.answerable > 0.5
