"""The same weights lie in memory once, whoever loads them first, and everybody computes with them as alone."""

import gc

import numpy as np
import pytest
import torch

from ctxshaper import Passage, Reader
from ctxshaper.models import sharing
from ctxshaper.models.decoder import Decoder
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.models.loading import load_lm
from ctxshaper.reading.profile import HeadProfile

PASSAGES = [Passage("The bridge was designed by Ada Moreau."), Passage("Bananas grow in bunches.")]
QUERY = "Who designed the bridge?"


@pytest.fixture(autouse=True)
def _nothing_is_alive():
    gc.collect()


def parts(folder, dtype="float32"):
    profile = HeadProfile.automatic("tiny", 4, 4)
    return (
        Reader(folder, profile=profile, device="cpu", dtype=dtype),
        LanguageModel(folder, device="cpu", dtype=dtype),
    )


def weight(layer):
    return layer.self_attn.q_proj.weight.data_ptr(), layer.mlp.down_proj.weight.data_ptr()


def results(reader, model):
    read = reader.read(QUERY, PASSAGES).passages
    return np.concatenate([one.scores for one in read]), np.array(model.logprobs_batch([(QUERY, "Ada Moreau.")])[0])


@pytest.fixture(params=["llama", "qwen2", "gemma2"])
def folder(request, tiny_model):
    return tiny_model(request.param)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reader_and_language_model_hold_the_layers_they_share_once(folder, dtype):
    reader, model = parts(folder, dtype)
    alone = results(reader, model)  # the reader loads first
    assert weight(reader.decoder.model.layers[0]) == weight(model.model.model.layers[0])
    del reader, model
    gc.collect()
    reader, model = parts(folder, dtype)
    _ = model.model  # the language model loads first
    again = results(reader, model)
    assert weight(reader.decoder.model.layers[0]) == weight(model.model.model.layers[0])
    for one, other in zip(alone, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_one_that_is_left_keeps_what_it_shares(folder):
    reader, model = parts(folder)
    expected = results(reader, model)
    held = weight(reader.decoder.model.layers[0])
    del reader
    gc.collect()
    other, _ = parts(folder)
    np.testing.assert_array_equal(results(other, model)[0], expected[0])
    assert weight(other.decoder.model.layers[0]) == held


def test_modules_are_everybodys_own(folder):
    source = resolve_lm(folder)
    whole = load_lm(source, dtype=torch.float32, head=True)
    before = whole.config._attn_implementation
    decoder = Decoder(source, 2, torch.device("cpu"), torch.float32)
    assert len(whole.model.layers) == 4
    assert len(decoder.model.layers) == 2
    assert whole.config._attn_implementation == before != decoder.config._attn_implementation
    assert whole.config.num_hidden_layers == 4


def test_what_is_used_by_nobody_is_let_go(tiny_model):
    source = resolve_lm(tiny_model("llama"))
    model = load_lm(source, dtype=torch.float16, head=True)
    key = (source.stamp(), "cpu", torch.float16)
    assert len(sharing._LIVE[key]) == 1
    del model
    gc.collect()
    assert not sharing._LIVE.get(key)


def test_files_that_changed_are_not_shared(tiny_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    first = load_lm(resolve_lm(folder), dtype=torch.float32)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.weight"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    second = load_lm(resolve_lm(folder), dtype=torch.float32)
    assert weight(first.layers[0]) != weight(second.layers[0])
    assert not torch.equal(first.layers[0].self_attn.q_proj.weight, second.layers[0].self_attn.q_proj.weight)
