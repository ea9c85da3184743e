"""Head profiles: what is refused, and what survives a file."""

import json

import pytest

from ctxshaper import HeadProfile, InvalidInputError, ModelError, Reader
from ctxshaper.reading.profile import Head
from tests.reading.test_reader import QUERY, TEXTS


@pytest.mark.parametrize(
    "head", [(-1, 0, 1.0), (0, -1, 1.0), (0, 0, 0.0), (0, 0, float("nan")), (0, 0, float("inf")), (1.5, 0, 1.0)]
)
def test_a_head_that_cannot_be_is_refused(head):
    with pytest.raises(InvalidInputError, match="layer >= 0"):
        Head(*head)


@pytest.mark.parametrize("layer", [-1, 1.5, "3", None, True])
def test_a_filter_layer_that_cannot_be_is_refused(layer):
    with pytest.raises(InvalidInputError, match="filter_layer"):
        HeadProfile("m", (Head(0, 0),), filter_layer=layer)


@pytest.mark.parametrize(
    "profile",
    [
        HeadProfile("other", (Head(1000, 0),), filter_layer=1),
        HeadProfile("other", (Head(1, 0),), filter_layer=1000),
        HeadProfile("other", (Head(1, 99),), filter_layer=1),
    ],
)
def test_a_profile_of_another_model_is_refused_before_anything_is_loaded(tiny_model, profile):
    reader = Reader(tiny_model("llama"), profile=profile, dtype="float32")
    with pytest.raises(ModelError, match="pass a profile made for this model"):
        reader.read(QUERY, TEXTS)
    assert "decoder" not in vars(reader)


def test_a_profile_survives_its_file(tmp_path):
    profile = HeadProfile("m", (Head(1, 2, 0.5), Head(0, 3)), filter_layer=1, provenance={"made_by": "hand"})
    profile.save(tmp_path / "p.json")
    assert HeadProfile.load(tmp_path / "p.json") == profile


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"heads": 3}', "[" * 100_000, '{"heads": [{"layer": "a", "head": 0}]}']
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(InvalidInputError, match="not a head profile"):
        HeadProfile.load(tmp_path / "p.json")


def test_the_shipped_profile_loads():
    name = "SmolLM2-135M-Instruct"
    profile = HeadProfile.shipped(name)
    profile.check(name, 30, 9)
    assert json.dumps(dict(profile.provenance))
    assert HeadProfile.shipped("nobody's") is None
