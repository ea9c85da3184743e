"""Contextual heads are those that look at what answers, and directions turn queries to it."""

import numpy as np
import pytest
import torch

from ctxshaper import InvalidInputError, LanguageModel, LocalGenerator, Passage, Span
from ctxshaper.calibration.focus_fit import Looking, fit_directions, gold_mass
from ctxshaper.calibration.made_up import EvidenceQuestion, synthetic_questions
from ctxshaper.calibration.steering import AnswerRows, _prompt, _tokens, calibrate_heads
from ctxshaper.data.marked import marks_of
from ctxshaper.generators.steering import PASTA, FocusDirections, SteeringProfile

QUESTION = EvidenceQuestion(
    "Who built the tower?",
    (Passage("Die Brücke 塔 is old.", metadata={"title": "Brücke"}), Passage("Ada built it in 1894.")),
    ((), (Span(0, 9),)),
)


@pytest.fixture(scope="module")
def model(tiny_model):
    torch.set_num_threads(1)
    return LanguageModel(tiny_model("llama"), dtype="float32", device="cpu")


def test_passages_that_answer_are_told_from_the_others(model):
    gold, other = (_prompt(QUESTION, answers=which) for which in (True, False))
    assert [gold[s.start : s.end] for s in marks_of(gold)] == ["Ada built it in 1894."]
    assert [other[s.start : s.end] for s in marks_of(other)] == ["Die Brücke 塔 is old."]
    read = _tokens(model, QUESTION, "It was Ada.")
    decode = model.tokenizer.decode
    assert decode(np.array(read.ids)[read.gold.numpy()]).strip() == "Ada built it in 1894."
    assert decode(np.array(read.ids)[read.other.numpy()]).strip() == "Die Brücke 塔 is old."
    assert decode(read.ids[read.first + 1 :]) == "It was Ada."


def test_the_mass_is_what_eager_attention_gives(model):
    read = _tokens(model, QUESTION, "It was Ada.")
    call = AnswerRows(read.gold, read.other, read.first, [(1, 2), (3, 0)])
    model.run(read.ids, range(len(read.ids)), call)
    with torch.inference_mode():
        weights = model._loaded.eager(torch.tensor([read.ids]), output_attentions=True).attentions
    for layer, found in enumerate(call.score):
        rows = weights[layer][0, :, read.first :].numpy()
        on_gold, on_other = (rows[:, :, mask.numpy()].sum(2).mean(1) for mask in (read.gold, read.other))
        expected = on_gold - on_other * read.gold.sum().item() / read.other.sum().item()
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    # What is kept of a head gives the same mass again.
    for (layer, head), (q, k) in call.kept.items():
        one = Looking(q[None], k[None], read.gold)
        rows = weights[layer][0, head, read.first :]
        assert float(one.mass(torch.zeros(1, q.shape[1]))[0]) == pytest.approx(
            float(rows[:, read.gold].sum(1).mean()), abs=1e-4
        )


def test_a_planted_direction_is_found():
    torch.manual_seed(0)
    planted = torch.zeros(2, 8)
    planted[0, 3], planted[1, 5] = 1.0, -1.0
    cases = []
    for _ in range(120):
        gold = torch.arange(30) % 6 == 0
        k = torch.randn(2, 30, 8)
        k[:, gold] += 2 * planted[:, None]
        cases.append(Looking(torch.randn(2, 4, 8), k, gold))
    found, (before, after) = fit_directions(cases)
    assert torch.nn.functional.cosine_similarity(found, planted, dim=1).min() > 0.9
    assert after > before + 0.05
    # Each head's is fitted alone.
    alone, _ = fit_directions([Looking(case.q[:1], case.k[:1], case.gold) for case in cases])
    torch.testing.assert_close(alone, found[:1])


def test_rows_see_no_later_key():
    q, k = torch.ones(1, 2, 4), torch.ones(1, 3, 4)
    only_last = torch.tensor([False, False, True])
    assert float(gold_mass(q, k, only_last, 0.5)) == pytest.approx((0 + 1 / 3) / 2)


def test_calibration_runs_through_and_what_it_finds_steers(model, tmp_path):
    questions = synthetic_questions(3, languages=["en"], seed=4)
    found = calibrate_heads(model, questions, keep=6, directions=2)
    scores = [head.score for head in found.heads]
    assert scores == sorted(scores, reverse=True)
    assert [len(head.direction) for head in found.heads] == [16, 16, 0, 0, 0, 0]
    assert found.provenance["questions"] == 3
    before, after = found.provenance["gold_mass_with_directions"]
    assert after > before
    assert calibrate_heads(model, questions, keep=6, directions=2) == found
    found.save(tmp_path / "heads.json")
    known = SteeringProfile.load(tmp_path / "heads.json")
    assert known == found
    prompt = _prompt(questions[0], answers=True)
    for steering in (PASTA(profile=known), FocusDirections(profile=known, factor=5.0)):
        assert (
            LocalGenerator(model, steering=steering).logprobs(prompt, "Ada")
            != model.logprobs_batch([(prompt, "Ada")])[0]
        )
    assert all(not head.direction for head in calibrate_heads(model, questions[:1], directions=0).heads)


def test_questions_without_evidence_are_refused(model):
    bare = EvidenceQuestion("Who?", (Passage("a"),), ((),))
    with pytest.raises(InvalidInputError, match="known evidence"):
        calibrate_heads(model, [bare])
