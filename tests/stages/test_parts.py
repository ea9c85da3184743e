"""Parts: made when they are asked for, and no other; what was given decides what is made."""

import pickle
import threading

import pytest

from ctxshaper import (
    EvidenceFilter,
    FakeGenerator,
    FakeReader,
    LanguageModel,
    MissingDependencyError,
    Parts,
    Pipeline,
    Reader,
)
from ctxshaper.models import finding

TEXTS = ["The bridge was designed by Ada. It rained.", "Bananas are yellow."]


@pytest.fixture
def nothing_embedded(monkeypatch):
    """Neither of the embedded models is installed."""
    monkeypatch.setattr(finding, "_package_folder", lambda package: None)


def test_recipe_fast_needs_no_embedding_model(nothing_embedded):
    shaped = Pipeline.from_recipe("fast", reader=FakeReader()).shape("Who designed the bridge?", TEXTS, "60%")
    assert "Ada" in shaped.text
    with pytest.raises(MissingDependencyError, match="embedding model"):
        Pipeline.from_recipe("qa", reader=FakeReader()).shape("Who designed the bridge?", TEXTS, "60%")


def test_a_reader_of_ones_own_brings_the_language_model(nothing_embedded, tiny_model):
    reader = Reader(tiny_model("llama"), device="cpu", dtype="float32")
    model = Parts(reader=reader).language_model
    assert model.source == reader.source
    assert (model.device, model.dtype) == (reader.device, reader.dtype)
    with pytest.raises(MissingDependencyError, match="embedded language model"):
        _ = Parts(reader=FakeReader()).language_model


def test_what_is_given_is_used(tiny_model):
    model = LanguageModel(tiny_model("llama"), device="cpu", dtype="float32")
    parts = Parts(reader=FakeReader(), language_model=model, generator=(generator := FakeGenerator("x")))
    assert (parts.language_model, parts.generator) == (model, generator)
    assert Parts(language_model=model).generator.language_model is model


def test_many_threads_make_a_part_once(tiny_model):
    parts, made = Parts(language_model=LanguageModel(tiny_model("llama"))), []
    threads = [threading.Thread(target=lambda: made.append(parts.generator)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, made))) == 1


def test_a_copy_carries_what_was_given_and_not_what_was_made(tiny_model):
    parts = Parts(language_model=LanguageModel(tiny_model("llama")))
    assert parts.generator
    twin = pickle.loads(pickle.dumps(parts))
    assert "generator" not in twin.__dict__
    assert twin.language_model.source == parts.language_model.source


def test_a_stage_by_itself_takes_parts(passages):
    shaped = EvidenceFilter()(Pipeline([], reader=FakeReader()).shape("Who?", passages), Parts(reader=FakeReader()))
    assert shaped.trace.stages[0].notes == {"fits_already": True}
