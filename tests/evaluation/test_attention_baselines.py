"""ICR, QRHead, Sentinel, EXIT, RECOMP, trimwise: each finds what its rule says, on a few sentences."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.peer_weights import case_of, fit, head_scores, kept
from ctxshaper import Context, InvalidInputError, LanguageModel, Parts, Passage, Run
from ctxshaper.calibration.made_up import synthetic_questions
from ctxshaper.evaluation.baselines import baseline, installed_baselines
from ctxshaper.evaluation.baselines.exit_yes import yes
from ctxshaper.evaluation.baselines.fitted import fitted_for
from ctxshaper.evaluation.baselines.sentinel import _chunks, features
from ctxshaper.stages.units import units_of

QUERY = "In which year was the Halvorsen Bridge opened?"
PASSAGES = (
    Passage("The choir of Lindow sings every Thursday. It has forty members.", metadata={"title": "Choir"}),
    Passage("The Halvorsen Bridge was opened in 1931. It crosses the river Une.", metadata={"title": "Bridge"}),
    Passage("Marrow tea is drunk in the valleys. It is made from barley.", metadata={"title": "Tea"}),
)
GOLD = 2  # of the six sentences


@pytest.fixture(scope="module")
def parts() -> Parts:
    return Parts()


@pytest.fixture(scope="module")
def context(parts) -> Context:
    return Context(QUERY, tuple(p.ranked(rank) for rank, p in enumerate(PASSAGES)), parts.count)


@pytest.mark.parametrize("name", ["icr", "qrhead", "sentinel", "recomp"])
def test_the_sentence_that_answers_comes_first(name, context, parts):
    units = units_of(context, "sentence")
    scores = baseline(name).score(context, units, Run(parts))
    assert len(scores) == 6
    # Sentinel's probe puts what stands last in front of it.
    assert np.argsort(scores)[::-1].tolist().index(GOLD) <= (1 if name == "sentinel" else 0)


@pytest.mark.parametrize("name", ["icr", "qrhead", "sentinel", "exit"])
def test_parts_of_sentences_are_scored_too(name, context, parts):
    unit = units_of(context, "sentence")[GOLD]
    middle = unit.span.start + 20
    halves = [
        replace(unit, span=replace(unit.span, end=middle)),
        replace(unit, span=replace(unit.span, start=middle)),
    ]
    assert np.isfinite(baseline(name).score(context, halves, Run(parts))).all()


def test_heads_and_weights_are_those_of_one_model():
    with pytest.raises(InvalidInputError, match=r"known for SmolLM2-135M-Instruct, but the language model is Other"):
        fitted_for(SimpleNamespace(name="Other"))


def test_the_shipped_heads_are_those_that_made_up_questions_name(parts):
    model = parts.language_model
    shipped = fitted_for(model)
    assert len(set(shipped.heads)) == 16
    assert shipped.weights.shape == (model.layers, model.heads)
    cases = [case_of(model, parts, one) for one in synthetic_questions(3, languages=["en"], seed=99)]
    scores = head_scores(cases)
    best = {tuple(map(int, np.unravel_index(at, scores.shape))) for at in np.argsort(-scores, axis=None)[:24]}
    # Three other questions than those of the fit: by chance 1 or 2 of 16 would be among 24 of 270.
    assert len(best & set(shipped.heads)) >= 8
    # A fit knows its own questions' evidence.
    weights = fit(cases, 1e-3)
    found = kept(cases, [case.table @ weights for case in cases])
    assert found["30%"] > 0.9


def test_a_unit_has_a_share_of_what_its_prompt_gets(context, parts):
    model = parts.language_model
    table = features(model, QUERY, context.passages, units_of(context, "passage"))
    assert table.shape == (3, model.layers * model.heads)
    assert table.min() >= 0
    # Means times tokens are the shares of one prompt.
    sizes = np.array([len(model.encoder.data(p.source)[0]) for p in context.passages])
    assert sizes @ table == pytest.approx(np.ones(table.shape[1]), abs=1e-4)


def test_passages_are_asked_in_prompts_of_so_many_tokens(parts):
    some = [Passage("word " * size) for size in (300, 500, 400, 1500, 10, 20)]
    assert _chunks(parts.language_model, some) == [range(2), range(2, 3), range(3, 4), range(4, 6)]


def test_yes_does_not_depend_on_what_stands_beside_it():
    model = LanguageModel(dtype="float32")  # in bfloat16, which some processors compute in, the batch moves it by .03
    texts = ["Is water wet?", "Is it? " * 40, "Can stones fly? Answer only Yes or No."]
    rows = [model.chat.encode(text) for text in texts]
    together = yes(model, rows)
    assert together == pytest.approx([float(yes(model, [row])[0]) for row in rows], abs=1e-4)
    likely = [[sum(one) for one in model.logprobs_batch([(text, word) for word in ("Yes", "No")])] for text in texts]
    assert together == pytest.approx([1 / (1 + np.exp(no - first)) for first, no in likely], abs=1e-4)


def test_recomp_does_not_look_at_titles(context, parts):
    bare = context.with_passages([replace(p, metadata={}) for p in context.passages])
    units = units_of(context, "sentence")
    with_titles, without = (
        [baseline(n).score(c, units, Run(parts)) for c in (context, bare)] for n in ("minilm", "recomp")
    )
    assert without[0] == without[1]
    assert with_titles[0] != with_titles[1]


def test_trimwise_keeps_the_answer(context, parts):
    if "trimwise" not in installed_baselines():
        pytest.skip("trimwise is not installed")
    from ctxshaper import Budget

    asked = Context(QUERY, context.passages, context.count, Budget(share=0.5))
    shaped = baseline("trimwise")(asked, parts)
    assert "1931" in shaped.text
    assert shaped.tokens <= asked.limit
    tight = Context(QUERY, context.passages, context.count, Budget(tokens=1))
    assert baseline("trimwise")(tight, parts).tokens <= 1
