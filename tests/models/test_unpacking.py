"""A GGUF model's copy in the cache: checked, repaired, and done without where there is no cache."""

import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import pytest
import torch

from ctxshaper import ModelError, Reader
from ctxshaper.models.finding import EMBEDDED_LM, EMBEDDED_LM_SHA256, ModelSource, resolve_lm
from ctxshaper.models.hashing import file_hash
from ctxshaper.models.loading import load_lm, load_tokenizer
from ctxshaper.models.unpacking import intact, kept, unpacked
from tests.models.tiny_gguf import write

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return resolve_lm(write(tmp_path_factory.mktemp("gguf") / "tiny.gguf"))


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    """A copy; unpacking starts a process, so once."""
    folder = tmp_path_factory.mktemp("made") / "tiny"
    assert Path(kept(source, folder).location) == folder
    return folder


@pytest.fixture
def copy(made, tmp_path):
    """A good copy in a cache of the test's own."""
    return shutil.copytree(made, tmp_path / "cache" / "tiny")


def cut(folder):
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(10_000)


def flip(folder):
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def test_the_embedded_model_is_loaded_from_its_copy():
    source = unpacked(resolve_lm())
    assert source.gguf_file is None
    assert source.name == EMBEDDED_LM
    assert intact(Path(source.location), EMBEDDED_LM_SHA256)


def test_unpacking_is_quiet(source, tmp_path, capfd):
    capfd.readouterr()
    kept(source, tmp_path / "quiet")
    assert capfd.readouterr().err == ""


@pytest.fixture
def packed(monkeypatch):
    """Sources are loaded as they are, and no cache is written."""
    monkeypatch.setattr("ctxshaper.models.loading.unpacked", lambda source: source)


def test_a_copy_is_the_model_and_is_used_as_it_is(source, copy, packed):
    before = (copy / "model.safetensors").stat().st_mtime_ns
    again = kept(source, copy)
    assert (Path(again.location), again.gguf_file) == (copy, None)
    assert (copy / "model.safetensors").stat().st_mtime_ns == before
    one, other = (load_lm(s, dtype=torch.float16, head=True) for s in (source, again))
    for (name, a), (same, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert name == same
        assert torch.equal(a, b)
    encoded = [load_tokenizer(s).encode("abc é") for s in (source, again)]
    assert encoded[0] == encoded[1]


def test_a_gguf_file_that_cannot_be_unpacked_is_an_error_in_the_end(tmp_path, packed):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and nothing else")
    source = resolve_lm(tmp_path / "broken.gguf")
    with pytest.warns(UserWarning, match="unpacked at every start"):
        assert kept(source, tmp_path / "cache" / "broken") is source
    with pytest.raises(ModelError, match="cannot load the model"):
        load_tokenizer(source)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        flip,
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text('{"of": "another", "sha256": {}}'),
        lambda folder: (folder / "config.json").write_text("{}"),
    ],
)
def test_a_damaged_copy_is_noticed(source, copy, damage):
    digest = file_hash(source.files()[0])
    assert intact(copy, digest)
    damage(copy)
    assert not intact(copy, digest)


def test_a_truncated_copy_is_made_anew(source, copy, made):
    cut(copy)
    assert Path(kept(source, copy).location) == copy
    assert (copy / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    assert list(copy.parent.iterdir()) == [copy]


def test_without_a_cache_the_gguf_file_itself_is_loaded(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="unpacked at every start"):
        assert unpacked(resolve_lm()).gguf_file
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        assert unpacked(resolve_lm()).gguf_file


def test_without_a_home_the_gguf_file_itself_is_loaded(monkeypatch):
    def homeless(cls):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", classmethod(homeless))
    with pytest.warns(UserWarning, match="no home"):
        assert unpacked(resolve_lm()).gguf_file


PROGRAM = """
import os, resource, sys, warnings
from pathlib import Path
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.guard import loading
from ctxshaper.models.unpacking import kept
mode, gguf, folder = sys.argv[1:]
source = resolve_lm(gguf)
with loading(source):
    pass
if mode == "full":  # no file may grow beyond 20 kB: what a full disk is to a program
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
else:  # a user of the system who may not read this cache
    os.seteuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = kept(source, Path(folder))
print(found.gguf_file, ["unpacked at every start" in str(w.message) for w in caught if w.category is UserWarning])
"""


def run(mode, source, folder):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, mode, f"{source.location}/{source.gguf_file}", str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_a_full_disk_costs_the_copy_and_not_the_model(source, tmp_path):
    pytest.importorskip("resource")
    ran = run("full", source, tmp_path / "cache" / "tiny")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "tiny.gguf [True]"
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user")
def test_a_cache_of_another_user_is_left_alone():
    tmp_path = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    tmp_path.chmod(0o755)
    source = resolve_lm(write(tmp_path / "tiny.gguf"))
    copy = tmp_path / "cache" / "tiny"
    kept(source, copy)
    copy.parent.chmod(0o700)
    ran = run("other", source, copy)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "tiny.gguf [True]"
    assert intact(copy, file_hash(source.files()[0]))
    shutil.rmtree(tmp_path)


def test_any_gguf_model_is_loaded_from_a_copy_of_its_own(source, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = unpacked(source)
    digest = file_hash(source.files()[0])
    assert found == ModelSource(source.name, str(tmp_path / "ctxshaper" / f"tiny-{digest[:16]}-float16-v1"))
    assert intact(Path(found.location), digest)
    with monkeypatch.context() as patch:
        patch.setattr("gguf.GGUFReader.__init__", lambda *_: pytest.fail("minutes for a large vocabulary's header"))
        assert load_tokenizer(source).encode("ab") == load_tokenizer(found).encode("ab")
        assert load_lm(source, dtype=torch.float32, layers=1).config.num_hidden_layers == 1


def test_a_large_file_is_not_copied(source, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("ctxshaper.models.unpacking._LARGEST", source.files()[0].stat().st_size - 1)
    assert unpacked(source) is source
    assert not list(tmp_path.glob("ctxshaper/*"))


def test_weights_beyond_float16_are_loaded_from_the_gguf_file_itself(tmp_path, packed):
    source = resolve_lm(write(tmp_path / "large.gguf", spread=1e5))
    with pytest.warns(UserWarning, match=r"float16 cannot hold.*unpacked at every start"):
        assert kept(source, tmp_path / "cache" / "large") is source
    assert torch.isfinite(load_lm(source, dtype=torch.float32, head=True).lm_head.weight).all()


def test_safetensors_models_stay_where_they_are(tmp_path):
    source = ModelSource(EMBEDDED_LM, str(tmp_path))
    assert unpacked(source) is source


def test_a_reader_of_the_embedded_model_does_not_parse_its_gguf_file(reader, monkeypatch):
    _ = reader.decoder  # the copy is there
    monkeypatch.setattr("gguf.GGUFReader.__init__", lambda *_: pytest.fail("some ten seconds for a header"))
    assert Reader().layout.prefix == reader.layout.prefix
