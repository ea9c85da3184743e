"""One whole model for all: loaded once, copied by description, stopped by deadlines, right in its numbers."""

import copy
import gc
import pickle
import threading
import time

import numpy as np
import pytest
import torch

from ctxshaper import InvalidInputError
from ctxshaper.data import deadline
from ctxshaper.errors import DeadlineError, GeneratorError, ModelError, UnsupportedModelError
from ctxshaper.generators import LocalGenerator
from ctxshaper.models.attention import LayersRead, causal
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.models.loading import load_lm
from ctxshaper.models.writing import batches
from ctxshaper.stages.attention_rag.focal import FocalReader
from ctxshaper.stages.distraction_filter.abstention import Abstention
from tests.conftest import FAMILIES


@pytest.fixture(scope="module")
def model(tiny_model):
    return LanguageModel(tiny_model("llama"), device="cpu", dtype="float32")


def test_everybody_uses_the_one_that_is_loaded(model, tiny_model):
    folder = tiny_model("llama")
    same = LanguageModel(str(folder), device=torch.device("cpu"), dtype=torch.float32)
    assert same.model is model.model
    assert same.tokenizer is model.tokenizer
    assert LocalGenerator(folder, device="cpu", dtype="float32").model is model.model
    assert Abstention(model).model.model is FocalReader(model).model.model is model.model
    assert LanguageModel(folder, device="cpu", dtype="bfloat16").model is not model.model


def test_many_threads_load_it_once(tiny_model):
    gc.collect()
    found = []
    asked = [LanguageModel(tiny_model("mistral"), device="cpu", dtype="float16") for _ in range(4)]
    threads = [threading.Thread(target=lambda m=m: found.append(m.model)) for m in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_what_nobody_uses_is_let_go(tiny_model):
    import weakref

    one = LanguageModel(tiny_model("llama"), device="cpu", dtype="float16")
    one.next_attention([1, 2, 3])
    one.decoder(2)
    held = weakref.ref(one.model)
    del one
    gc.collect()
    assert held() is None


@pytest.mark.parametrize("how", [copy.deepcopy, copy.copy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_carry_the_description(model, how):
    for part in (model, Abstention(model), FocalReader(model), LocalGenerator(model)):
        assert len(pickle.dumps(part)) < 1000
        other = how(part)
        own = getattr(part, "language_model", getattr(part, "model", part))
        its = getattr(other, "language_model", getattr(other, "model", other))
        if isinstance(own, LanguageModel):
            assert (its.source, its.device, its.dtype) == (own.source, own.device, own.dtype)
            assert its.model is own.model
    assert how(model).name == model.name


def test_an_embedders_copy_leaves_the_vectors_behind(embedder):
    vectors = embedder.embed(["one", "two"])
    other = pickle.loads(pickle.dumps(embedder))
    assert len(pickle.dumps(embedder)) < 500
    assert not other._known
    assert other.max_remembered == embedder.max_remembered
    np.testing.assert_allclose(other.embed(["one", "two"]), vectors, atol=1e-6)
    assert not copy.deepcopy(embedder)._known


def test_the_window_is_kept(model):
    assert (model.context_window, model.layers, model.heads) == (4096, 4, 4)
    with pytest.raises(GeneratorError, match="4096"):
        model.generate_batch(["word " * 5000])
    with pytest.raises(GeneratorError, match="4096"):
        model.logprobs_batch([("word " * 5000, "x")])


@torch.inference_mode()
@pytest.mark.parametrize("family", FAMILIES)
def test_its_numbers_are_the_models_own(family, tiny_model):
    one = LanguageModel(tiny_model(family), device="cpu", dtype="float32")
    plain = load_lm(one.source, dtype=torch.float32, head=True)
    plain.set_attn_implementation("eager")
    rows = [
        one.encoder.data(text)[0] for text in ("The same beginning, then a lot more of it.", "The same end", "Else")
    ]
    token = rows[1][-1]
    expected = [float(plain(torch.tensor([row])).logits[0, -1].log_softmax(-1)[token]) for row in rows]
    np.testing.assert_allclose(one.log_next(rows, token), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(one.log_next(rows[:2], token), expected[:2], rtol=1e-4, atol=1e-4)
    written, attention = one.next_attention(rows[0], lambda tokens: len(tokens) < 3)
    prompt = list(rows[0])
    for place, token in enumerate(written):
        assert int(plain(torch.tensor([prompt])).logits[0, -1].argmax()) == token
        prompt.append(token)
        if not place:
            out = plain(torch.tensor([prompt]), output_attentions=True)
            whole = torch.stack([a[0, :, -1, :-1].mean(0) for a in out.attentions]).numpy()
            np.testing.assert_allclose(attention, whole, rtol=1e-3, atol=1e-5)
    assert len(written) == 3


class Watch:
    """Ordinary attention that notes which layers it stood in for."""

    def __init__(self, last=None):
        self.seen, self.last = [], last

    def attend(self, layer, q, k, v, scale, softcap):
        self.seen.append((layer, tuple(q.shape)))
        if layer == self.last:
            raise LayersRead
        return causal(q, k, v, scale, softcap)


def test_every_head_of_any_number_of_layers_can_be_watched(model):
    for layers, expected in ((None, 4), (2, 2)):
        watch = Watch()
        model.run([1, 2, 3], range(3), watch, layers=layers)
        assert watch.seen == [(layer, (4, 3, 16)) for layer in range(expected)]
    watch = Watch(last=1)
    model.run([1, 2, 3], range(3), watch)
    assert [layer for layer, _ in watch.seen] == [0, 1]
    with pytest.raises(ModelError, match="5 layers"):
        model.run([1], [0], Watch(), layers=5)


def test_what_watches_leaves_nothing_behind(model):
    before = model.generate_batch(["Hello"], max_new_tokens=4)

    class Breaks(Watch):
        def attend(self, *_):
            raise UnsupportedModelError("no")

    with pytest.raises(UnsupportedModelError):
        model.run([1, 2, 3], range(3), Breaks())
    assert model.model.config._attn_implementation == "sdpa"
    assert model.generate_batch(["Hello"], max_new_tokens=4) == before


class Expires(deadline.Deadline):
    """A deadline that passes at the n-th question."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def check(self):
        self.n -= 1
        if self.n < 0:
            raise DeadlineError("over")


@pytest.mark.parametrize(
    "work",
    [
        lambda model: model.generate_batch(["Hello"], max_new_tokens=50),
        lambda model: model.run([1, 2], [0, 1], Watch()),
        lambda model: model.log_next([[1, i, *range(1000)] for i in range(5)], 5),
        lambda model: model.next_attention([1, 2, 3], lambda tokens: len(tokens) < 9),
        lambda model: model.logprobs_batch([("word " * 1200, f"{i}") for i in range(16)]),
    ],
)
def test_work_stops_at_the_deadline(model, work):
    with deadline.under(Expires(2)), pytest.raises(DeadlineError):
        work(model)
    work(model)
    with deadline.under(Expires(0)), pytest.raises(DeadlineError):
        work(model)


def test_who_waits_for_a_turn_keeps_to_the_deadline(model):
    taken, done = threading.Event(), threading.Event()

    def hold():
        with model._turn():
            taken.set()
            done.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait()
    start = time.perf_counter()
    try:
        with deadline.under(deadline.Deadline(0.3)), pytest.raises(DeadlineError):
            model.generate_batch(["Hello"])
        assert time.perf_counter() - start < 5
    finally:
        done.set()
        holder.join()


def test_numbers_that_are_none_are_an_error(tiny_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.mlp.up_proj.weight"][0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    broken = LanguageModel(folder, device="cpu", dtype="float32")
    with pytest.raises(ModelError, match="not numbers"):
        broken.log_next([[1, 2, 3], [1, 2, 4]], 5)
    with pytest.raises(ModelError, match="not a number"):
        broken.next_attention([1, 2, 3])


def test_devices_and_types_are_checked(tiny_model):
    for dtype in ("int8", torch.int8, torch.float64, None):
        with pytest.raises(InvalidInputError, match="dtype must be"):
            LanguageModel(tiny_model("llama"), dtype=dtype)
    with pytest.raises(InvalidInputError, match="device must be"):
        LanguageModel(tiny_model("llama"), device="toaster")


def test_batches_leave_a_row_at_the_window_alone():
    lengths = [300, 9000, 200, 8192, 100]
    assert list(batches(lengths, whole=8192)) == [[1], [3], [0, 2, 4]]
    assert sorted(i for batch in batches([4000] * 5) for i in batch) == [0, 1, 2, 3, 4]
    assert max(len(batch) for batch in batches([4000] * 5)) == 2
