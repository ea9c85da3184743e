"""Models load completely or not at all, quietly, also from many threads."""

import io
import json
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from ctxshaper import ModelError, Reader
from ctxshaper.models.decoder import Decoder
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.guard import loading
from ctxshaper.models.loading import load_lm, load_tokenizer

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_model, tmp_path):
    """A tiny model of one's own to damage."""
    return shutil.copytree(tiny_model("llama"), tmp_path / "model")


def test_missing_weights_are_an_error_and_not_random(folder):
    weights = load_file(folder / "model.safetensors")
    lost = ["model.layers.1.mlp.up_proj.weight", "model.layers.3.self_attn.q_proj.weight"]
    save_file({k: v for k, v in weights.items() if k not in lost}, folder / "model.safetensors", {"format": "pt"})
    for head in (True, False):
        with pytest.raises(ModelError, match=r"lacks 2 weights.*layers\.1\.mlp\.up_proj.*layers\.3\.self_attn\.q_proj"):
            load_lm(resolve_lm(folder), dtype=torch.float32, head=head)
    # What is not asked for need not be there.
    load_lm(resolve_lm(folder), dtype=torch.float32, layers=1)


def test_weights_of_another_shape_are_an_error(folder):
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = torch.ones(3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"norm\.weight|mismatch|shape"):
        load_lm(resolve_lm(folder), dtype=torch.float32, head=True)


def test_a_tied_head_is_not_missing(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    model = load_lm(resolve_lm(folder), dtype=torch.float32, head=True)
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "no tokenizer", "bad config"])
def test_a_corrupt_folder_is_one_clear_error(folder, damage):
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "garbage":
        weights.write_bytes(b"\xff" * 1000)
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "bad config":
        (folder / "config.json").write_text("{")
    else:
        (folder / "tokenizer.json").write_text('{"version": 7}')
    load = load_tokenizer if damage == "no tokenizer" else partial(load_lm, dtype=torch.float32)
    with pytest.raises(ModelError, match="cannot load the model"):
        load(resolve_lm(folder))


def test_layers_that_a_model_does_not_have_are_not_made_up(tiny_model):
    for layers in (0, 1001):
        with pytest.raises(ModelError, match=rf"{layers} layers.*has 4;"):
            Decoder(resolve_lm(tiny_model("llama")), layers, CPU, torch.float32)


def test_a_readers_type_may_be_torchs_own(tiny_model):
    assert Reader(tiny_model("llama"), dtype=torch.float32).dtype == torch.float32


def test_loading_from_four_threads_leaves_the_process_as_it_was(tiny_model):
    sources = [resolve_lm(tiny_model(family)) for family in ("llama", "qwen2", "mistral", "qwen3")]
    transformers_logging.set_verbosity_info()
    transformers_logging.enable_progress_bar()
    stderr, default, seen = sys.stderr, torch.get_default_dtype(), set()
    done = threading.Event()

    def watch():
        while not done.wait(0.0005):
            seen.add(sys.stderr is stderr)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda s: (load_lm(s, dtype=torch.bfloat16, layers=2), load_tokenizer(s)), sources * 2))
        assert transformers_logging.get_verbosity() == transformers_logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        done.set()
        watcher.join()
        transformers_logging.set_verbosity_warning()
    assert seen == {True}
    assert sys.stderr is stderr
    assert torch.get_default_dtype() == default


def test_loading_is_quiet(tiny_model, capfd):
    source = resolve_lm(tiny_model("phi3"))
    capfd.readouterr()
    load_lm(source, dtype=torch.float16, head=True)
    assert capfd.readouterr().err == ""


def test_what_others_set_meanwhile_stays(tiny_model):
    transformers_logging.disable_progress_bar()
    try:
        with loading(resolve_lm(tiny_model("llama"))):
            transformers_logging.set_verbosity_debug()
        assert transformers_logging.get_verbosity() == transformers_logging.DEBUG
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity_warning()
        transformers_logging.enable_progress_bar()


def test_a_slow_tokenizer_is_one_clear_error():
    from ctxshaper.text.tokenization import Encoder

    with pytest.raises(ModelError, match="no fast tokenizer"):
        Encoder(io.StringIO())


def test_a_full_device_is_not_taken_for_a_wrong_name(tiny_model):
    source = resolve_lm(tiny_model("llama"))
    with pytest.raises(ModelError, match="does not fit beside what the device's memory holds"), loading(source):
        raise torch.OutOfMemoryError("Tried to allocate 54.00 MiB")
