"""A steered generator: what it shares, what it leaves alone, and what it refuses."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from benchmarks.steering import neutral
from ctxshaper import Context, InvalidInputError, LanguageModel, LocalGenerator, Passage, Span, UnsupportedModelError
from ctxshaper.data import Marked
from ctxshaper.generators.steering import (
    ACT,
    PASTA,
    AttentionBuckets,
    FocusDirections,
    HeadSteering,
    SteeringProfile,
    ZeroTuning,
)
from ctxshaper.models.steered import Batch, steering_by
from tests.generators.steering.reference import HEADS, profile

PROMPTS = [
    "Turm 塔 🗼. " + Marked("Ada built it in 1894.", [Span(0, 21)]) + " Who?",
    Marked("Bob.", [Span(0, 4)]) + " Who built the bridge " + "over the river " * 5 + "?",
]
PAIRS = [(prompt, answer) for prompt, answer in zip(PROMPTS, ["Ada.", "It was Bob"], strict=True)]


@pytest.fixture(scope="module")
def model(tiny_model):
    torch.set_num_threads(1)
    return LanguageModel(tiny_model("llama"), dtype="float32", device="cpu")


def every(name, width=16):
    known = profile(name, width)
    return [
        PASTA(profile=known, alpha=0.01),
        FocusDirections(profile=known, factor=1.0),
        ZeroTuning(profile=known, rate=0.1),
        ACT(profile=known, beta=0.0, threshold=1.1),
        AttentionBuckets(),
    ]


def results(generator):
    return generator.generate_batch(PROMPTS), generator.logprobs_batch(PAIRS)


@dataclass(frozen=True, kw_only=True)
class Untouched(HeadSteering):
    """Chooses no head of any layer."""

    def chosen(self, layer, heads):
        return ()


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_layers_that_are_not_chosen_run_as_without_steering_to_the_bit(tiny_model, family):
    model = LanguageModel(tiny_model(family), dtype="float32", device="cpu")
    plain = results(LocalGenerator(model, max_new_tokens=4))
    assert results(LocalGenerator(model, max_new_tokens=4, steering=Untouched(profile=profile(model.name)))) == plain


def test_strengths_that_change_nothing_change_nothing(model):
    known = profile(model.name)
    plain = np.concatenate(model.logprobs_batch(PAIRS))
    for steering in neutral(known):
        found = np.concatenate(LocalGenerator(model, steering=steering).logprobs_batch(PAIRS))
        np.testing.assert_allclose(found, plain, atol=2e-4)
    for steering in every(model.name):
        found = np.concatenate(LocalGenerator(model, steering=steering).logprobs_batch(PAIRS))
        assert np.abs(found - plain).max() > 0.05, steering


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "phi3", "gemma2"])
@pytest.mark.parametrize("number", range(5))
def test_what_is_written_is_what_is_likeliest(tiny_model, family, number):
    """Steering of a prompt token by token with a cache is that of a whole pass, and a batch's that of each row."""
    model = LanguageModel(tiny_model(family), dtype="float32", device="cpu")
    steering = every(model.name)[number]
    generator = LocalGenerator(model, max_new_tokens=3, steering=steering)
    steered = steering.resolved(model.name, 4, 4)
    rows = [model.chat.encode_marked(prompt) for prompt in PROMPTS]
    written = model._written(rows, 3, {}, steered)
    together = generator.logprobs_batch(PAIRS)
    for row, prompt, tokens in zip(together, PROMPTS, written, strict=True):
        assert generator.logprobs_batch([(prompt, dict(PAIRS)[prompt])])[0] == pytest.approx(row, abs=2e-3)
        ids, marked = model.chat.encode_marked(prompt)
        for place, token in enumerate(tokens):
            whole = torch.tensor([ids + tokens[:place]] * steered.copies)
            batch = Batch.of([(marked, place)], model.device).repeated(steered.copies)
            with torch.inference_mode(), steering_by(steered, batch):
                last = model._loaded.steered(whole).logits[:, -1].log_softmax(-1)
            likely = steered.mixed(last[:, None])[0]
            assert likely[token] >= likely.max() - 1e-3


def test_long_prompts_slide_out_of_a_window(tiny_model):
    model = LanguageModel(tiny_model("gemma2"), dtype="float32", device="cpu")  # sees 512 tokens in every other layer
    long = "one two three four " * 150 + Marked("five", [Span(0, 4)]) + " six?"
    for steering in every(model.name):
        generator = LocalGenerator(model, max_new_tokens=2, steering=steering)
        both = generator.logprobs_batch([(long, "seven eight"), PAIRS[0]])
        assert both[0] == pytest.approx(generator.logprobs(long, "seven eight"), abs=5e-3)
        assert generator.generate_batch([long, PROMPTS[0]])[0] == generator.generate(long)


def test_others_who_use_the_model_are_not_changed(model):
    plain = LocalGenerator(model, max_new_tokens=4)
    before = results(plain)
    attention = model.model.config._attn_implementation
    ids = model.chat.encode(PROMPTS[0])
    looked = model.next_attention(ids)[1]
    steered = [LocalGenerator(model, max_new_tokens=4, steering=one) for one in every(model.name)]
    alone = [results(one) for one in steered]
    with ThreadPoolExecutor(6) as threads:
        calls = [one for one in [plain, *steered] for _ in range(3)]
        together = list(threads.map(results, calls))
    assert together == [found for found in [before, *alone] for _ in range(3)]
    assert results(plain) == before
    assert model.model.config._attn_implementation == attention
    np.testing.assert_array_equal(model.next_attention(ids)[1], looked)
    # One set of weights in memory.
    ours, theirs = dict(model.model.named_parameters()), dict(model._loaded.steered.named_parameters())
    assert all(theirs[name].data_ptr() == value.data_ptr() for name, value in ours.items())


def test_a_failure_within_a_steered_pass_leaves_nothing_behind(model):
    class Failing(AttentionBuckets):
        def turned(self, module, q, k, seen):
            raise RuntimeError("within a layer")

    before = model.logprobs_batch(PAIRS)
    with pytest.raises(RuntimeError, match="within a layer"):
        model.logprobs_batch(PAIRS, steering=Failing())
    assert model.logprobs_batch(PAIRS) == before
    with pytest.raises(UnsupportedModelError, match="steering_by"):
        model._loaded.steered(torch.tensor([[1, 2]]))


def test_what_needs_marks_says_so(model):
    generator = LocalGenerator(model, max_new_tokens=2, steering=PASTA(profile=profile(model.name)))
    for prompt in ("Who?", [{"role": "user", "content": "Who?"}], Marked("Who?")):
        with pytest.raises(InvalidInputError, match="nothing is marked in 'Who"):
            generator.generate(prompt)
    # One marked message is enough; f-strings lose the marks, and that does not pass silently.
    talk = [{"role": "system", "content": "Read."}, {"role": "user", "content": PROMPTS[0]}]
    assert isinstance(generator.generate(talk), str)
    with pytest.raises(InvalidInputError, match="build the prompt by"):
        generator.logprobs(f"{PROMPTS[0]}", "Ada.")
    free = LocalGenerator(model, max_new_tokens=2, steering=ZeroTuning(profile=profile(model.name)))
    assert isinstance(free.generate("Who?"), str)


def test_heads_ship_for_the_embedded_model():
    shipped = SteeringProfile.shipped("SmolLM2-135M-Instruct")
    shipped.check("SmolLM2-135M-Instruct", layers=30, heads=9)
    assert len({(head.layer, head.head) for head in shipped.heads}) == len(shipped.heads) >= 20
    assert all(len(head.direction) == 64 for head in shipped.heads[:20])
    assert [head.score for head in shipped.heads] == sorted((head.score for head in shipped.heads), reverse=True)


def test_heads_of_another_model_are_refused(model):
    with pytest.raises(InvalidInputError, match="got 'PASTA'"):
        LocalGenerator(model, steering="PASTA")
    with pytest.raises(InvalidInputError, match="calibrate_heads"):
        LocalGenerator(model, steering=ZeroTuning()).generate("Who?")
    with pytest.raises(InvalidInputError, match="of 'another'"):
        LocalGenerator(model, steering=ZeroTuning(profile=profile("another"))).generate("Who?")
    with pytest.raises(InvalidInputError, match="4 layers of 4 heads"):
        LocalGenerator(model, steering=ZeroTuning(profile=profile(model.name, heads=[(4, 0)]))).generate("Who?")
    with pytest.raises(InvalidInputError, match="no heads yet"):
        model.logprobs_batch(PAIRS, steering=ZeroTuning())
    bare = SteeringProfile(model.name, tuple(type(h)(h.layer, h.head, h.score) for h in profile(model.name).heads))
    with pytest.raises(InvalidInputError, match="no directions"):
        LocalGenerator(model, steering=FocusDirections(profile=bare)).generate("Who?")


def test_copies_always_take_the_likeliest_token(model):
    with pytest.raises(InvalidInputError, match="temperature=0"):
        LocalGenerator(model, temperature=0.7, steering=AttentionBuckets())
    drawn = LocalGenerator(model, temperature=0.7, max_new_tokens=3, steering=every(model.name)[0])
    assert isinstance(drawn.generate(PROMPTS[0]), str)


def test_other_rotary_positions_are_refused(tiny_model):
    generator = LocalGenerator(
        LanguageModel(tiny_model("gemma3_text"), dtype="float32", device="cpu"), steering=AttentionBuckets()
    )
    with pytest.raises(UnsupportedModelError, match="rotary"):
        generator.logprobs("Who?", "Ada")


def test_a_profile_is_a_file_and_a_generator_travels(model, tmp_path):
    known = profile(model.name)
    known.save(tmp_path / "heads.json")
    assert SteeringProfile.load(tmp_path / "heads.json") == known
    assert [(head.layer, head.head) for head in known.heads] == HEADS
    for text in ("[]", "{}", '{"model": "m", "heads": [{"layer": -1, "head": 0, "score": 1, "direction": []}]}', "x"):
        with pytest.raises(InvalidInputError):
            SteeringProfile.from_json(text)
    generator = LocalGenerator(model, max_new_tokens=3, steering=PASTA(profile=known))
    assert pickle.loads(pickle.dumps(generator)).generate(PROMPTS[0]) == generator.generate(PROMPTS[0])


def test_a_shaped_context_is_marked_where_its_text_stands(model):
    passages = (Passage("Ein Türm — 塔 🗼. Ada built it."), Passage("Bob built the bridge."))
    context = Context("Who?", passages, model.encoder.count)
    start = passages[0].source.index("Ada")
    shaped = context.with_passages([passages[0].keep([Span(start, start + 13)])])
    for prompt in (shaped.marked(), shaped.marked(whole=True)):
        ids, marked = model.chat.encode_marked("Read:\n\n" + prompt + "\n\nWho?")
        assert (
            model.tokenizer.decode([i for i, mark in zip(ids, marked, strict=True) if mark]).strip() == "Ada built it."
        )
