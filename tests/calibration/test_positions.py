"""The profiling instrument sees the attention that the model pays, and a planted preference for a position."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ctxshaper import InvalidInputError, Passage
from ctxshaper.calibration.orders import accuracy_profile, scorer, with_gains
from ctxshaper.calibration.positions import PositionReader, attention_profile, basin
from ctxshaper.evaluation.loaders import load_questions
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question, made_up_questions
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.loading import load_tokenizer

QUESTIONS = made_up_questions()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = load_tokenizer(resolve_lm())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=600,
        initializer_range=0.6,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_mass_per_slot_is_the_models_own_attention(tiny):
    reader = PositionReader(tiny, layers=3, device="cpu", dtype="float32")
    question = QUESTIONS[3]
    passages = question.passages[2:6]
    got = reader.attention(question.text, passages)

    model = LlamaForCausalLM.from_pretrained(tiny, attn_implementation="eager", dtype=torch.float32)
    tokenizer = load_tokenizer(reader.source)
    turn = [{"role": "user", "content": prompt(question.text, passages)}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)
    with torch.inference_mode():
        attentions = model(torch.tensor([encoded["input_ids"]]), output_attentions=True).attentions
    last = np.array([end - 1 for _, end in encoded["offset_mapping"]])
    asked = text.index(question.text)
    rows = (last >= asked) & (last < asked + len(question.text))
    for layer in range(3):
        weights = attentions[layer][0].mean(0)[torch.from_numpy(rows)].mean(0).numpy()
        for slot, passage in enumerate(passages):
            start, end = text.index(passage.title + "\n"), text.index(passage.text) + len(passage.text)
            # What separates two passages counts to the one behind it.
            own = (last >= start - (2 if slot else 0)) & (last < end)
            assert got[layer, slot] == pytest.approx(weights[own].sum(), abs=1e-5)
    assert got.shape == (3, 4)


def test_a_profile_sums_to_one_and_repeats(tiny):
    reader = PositionReader(tiny, device="cpu", dtype="float32")
    assert reader.decoder.layers == 2
    first, again = (attention_profile(reader, QUESTIONS, 4, prompts=5, seed=1) for _ in range(2))
    assert first == again
    assert sum(first.attention) == pytest.approx(1)
    shares = np.array(first.provenance["shares_by_layer"])
    expected = next((i for i, row in enumerate(shares) if basin(row) >= 1.3), 0)
    assert first.layer == expected


def test_the_basin_rule():
    assert basin(np.array([0.3, 0.1, 0.1, 0.2])) == pytest.approx(2.0)
    assert basin(np.array([0.1, 0.1, 0.8])) == pytest.approx(1.0)
    assert basin(np.array([0.5, 0.5])) == 1.0


def test_too_long_or_too_few_is_refused(tiny):
    reader = PositionReader(tiny, layers=1, device="cpu", dtype="float32")
    with pytest.raises(InvalidInputError, match="fewer slots"):
        reader.attention("q?", [Passage("word " * 700)])
    with pytest.raises(InvalidInputError, match="empty"):
        reader.attention("", [Passage("word")])
    with pytest.raises(InvalidInputError, match="21 slots"):
        attention_profile(reader, QUESTIONS, 21)
    with pytest.raises(InvalidInputError, match="questions"):
        attention_profile(reader, [], 2)


class FirstOnly:
    """A generator that sees nothing behind the first passages."""

    def __init__(self, sees):
        self.sees = sees

    def generate(self, text):
        return "\n\n".join(text.split("\n\n")[1 : 1 + self.sees])

    def logprobs(self, text, continuation):
        return [-0.5, -0.7] if continuation in self.generate(text) else [-3.0, -4.0]


@pytest.mark.parametrize("measure", ["accuracy", "log-likelihood"])
def test_answers_show_a_planted_preference_and_its_gain(measure):
    score = scorer(FirstOnly(2), measure)
    profile = accuracy_profile(score, QUESTIONS[::2], 5, generator="first", measure=measure)
    assert set(profile.order[:2]) == {0, 1}
    assert profile.attention[0] > 3 * profile.attention[-1]
    made = with_gains(profile, score, QUESTIONS[1::2], measure=measure)
    assert made.gains["best_last"].gain > 0
    assert made.gains["best_last"].p < 0.05
    # Against best first the order of this generator gains nothing: it must not be followed.
    assert not made.pays
    assert made.measure == measure


def test_a_generator_that_reads_only_the_end_is_worth_reordering():
    class LastOnly(FirstOnly):
        def generate(self, text):
            return text.split("\n\n")[-2]

    score = scorer(LastOnly(1), "log-likelihood")
    profile = accuracy_profile(score, QUESTIONS[::2], 4, generator="last", measure="log-likelihood")
    assert profile.order[0] == 3
    made = with_gains(profile, score, QUESTIONS[1::2])
    assert made.pays
    assert made.gains["best_last"].gain == 0
    assert made.gains["best_last"].p == 1


def test_a_generator_without_log_probabilities_is_refused():
    class Plain:
        def generate(self, prompt):
            return ""

    with pytest.raises(InvalidInputError, match="accuracy"):
        scorer(Plain(), "log-likelihood")
    no_gold = Question("q", ("a",), tuple(map(Passage, "abc")), frozenset())
    with pytest.raises(InvalidInputError, match="gold"):
        accuracy_profile(scorer(Plain(), "accuracy"), [no_gold], 2, generator="x")


def test_the_paired_test_tells_noise_from_a_difference():
    random = np.random.default_rng(0)
    base = random.normal(size=60)
    same = paired_gain(base + random.normal(size=60), base + random.normal(size=60))
    assert same.p > 0.05
    assert same.low < 0 < same.high
    better = paired_gain(base + 1 + 0.5 * random.normal(size=60), base)
    assert better.p < 0.001
    assert better.low < better.gain < better.high
    assert better.pays
    assert not paired_gain(base, base + 1).pays
    # Of 2^3 sign patterns two are as extreme: p = 1/4.
    assert paired_gain([1, 1, 1], [0, 0, 0]).p == pytest.approx(0.25, abs=0.02)
    for bad in (([1], [1]), ([1, 2], [1])):
        with pytest.raises(InvalidInputError, match="same 2 or more"):
            paired_gain(*bad)


def test_false_alarms_of_the_paired_test_are_as_rare_as_it_says():
    random = np.random.default_rng(1)
    alarms = [paired_gain(random.normal(size=20), np.zeros(20), rounds=400, seed=i).p < 0.05 for i in range(300)]
    assert np.mean(alarms) < 0.09


def test_questions_are_read_from_both_formats(tmp_path):
    hotpot = tmp_path / "h.json"
    hotpot.write_text(
        '[{"question": "q", "answer": "a", "context": [["T", ["One.", " Two."]], ["U", ["x"]]],'
        ' "supporting_facts": [["U", 0]]}]'
    )
    (read,) = load_questions(hotpot)
    assert (read.gold, read.passages[0].text, read.passages[0].title) == (frozenset([1]), "One. Two.", "T")
    lines = tmp_path / "l.jsonl"
    lines.write_text('{"question": "q", "answers": ["a"], "ctxs": [{"title": "T", "text": "x", "isgold": true}]}\n')
    assert load_questions(lines)[0].gold == {0}
    lines.write_text('{"question": "q"}\n')
    with pytest.raises(InvalidInputError, match="line 1"):
        load_questions(lines)
    with pytest.raises(InvalidInputError, match="no file"):
        load_questions(tmp_path / "none")


def test_the_shipped_questions_have_one_answer_each():
    assert len(QUESTIONS) == 20
    for question in QUESTIONS:
        holders = {i for i, p in enumerate(question.passages) if question.answers[0] in p.text}
        assert holders == question.gold
