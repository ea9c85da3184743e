"""What the pages' examples find: names that a reader would bring, and the built site."""

import fcntl
import os
import subprocess
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.fixture
def given(request, tmp_path, passages):
    """By page, the names that it takes for granted."""

    def served():
        from ctxshaper import FakeReader, Parts
        from tests.serving.conftest import serving, settings

        key = "a key of this test"
        running = serving(settings(api_key=key), Parts(reader=FakeReader()))
        url = running.__enter__()
        request.addfinalizer(lambda: running.__exit__(None, None, None))
        documents = ["Bananas are rich in potassium.", "Ada Moreau designed the bridge. It is red."]
        return {"url": url, "key": key, "documents": documents}

    def own_model():
        from ctxshaper.reading.profile import Head, HeadProfile

        profile = HeadProfile("mine", (Head(1, 0),), filter_layer=1)
        return {"folder": request.getfixturevalue("tiny_model")("llama"), "profile": profile}

    makers = {"gateways": served, "own_model": own_model, "page": lambda: {"passages": passages}}
    return lambda page: makers.get(page, dict)()


@pytest.fixture
def loaded_once(reader, embedder, monkeypatch):
    """The embedded models of one test run for all examples, where they bring neither a store nor a reader."""
    from ctxshaper import Parts

    def shared(part, make):
        return lambda parts: make(parts) if parts._given["store"] or parts._given["reader"] else part

    monkeypatch.setattr(Parts, "_embedded_reader", shared(reader, Parts._embedded_reader))
    monkeypatch.setattr(Parts, "_embedded_embedder", shared(embedder, Parts._embedded_embedder))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The built site; workers of one run build it once."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "site"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            built = subprocess.run(
                [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert built.returncode == 0, built.stderr[-5000:]
            assert "WARNING" not in built.stderr
    return folder
