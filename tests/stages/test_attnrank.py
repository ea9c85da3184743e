"""AttnRank permutes, follows a profile only where it pays, and says what it did."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxshaper import AttnRank, Context, InvalidInputError, Passage, Pipeline, PositionProfile
from ctxshaper.pipelines import Recipe
from ctxshaper.stages.attnrank.profile import Gain

PAYS = {"best_first": Gain(0.2, 0.1, 0.3, 0.001)}
NOISE = {"best_first": Gain(0.2, -0.1, 0.3, 0.2)}
WORSE = {"best_first": Gain(-0.2, -0.3, -0.1, 0.001)}
# The profile that a reproduction of the paper prints for Qwen2.5-7B: slots 5, 1, 4, 3, 2.
QWEN = (0.211, 0.153, 0.155, 0.173, 0.308)


def texts(stage, passages):
    context = Context("q", tuple(map(Passage, passages)), lambda text: len(text.split()))
    shaped = stage(context)
    return [p.text for p in shaped.passages], shaped.trace.stages[-1].notes


def test_rank_one_goes_to_the_most_attended_slot():
    profile = PositionProfile("qwen", QWEN, gains=PAYS)
    assert [slot + 1 for slot in profile.order] == [5, 1, 4, 3, 2]
    assert texts(AttnRank(profile=profile), "abcde")[0] == ["b", "e", "d", "c", "a"]


@pytest.mark.parametrize("gains", [{}, NOISE, WORSE, {"best_last": Gain(0.2, 0.1, 0.3, 0.001)}])
def test_without_a_gain_beyond_noise_the_order_stays_and_the_log_says_so(gains):
    profile = PositionProfile("qwen", QWEN, gains=gains)
    order, notes = texts(AttnRank(profile=profile), "abcde")
    assert order == list("abcde")
    assert "left alone" in notes["order"]
    assert texts(AttnRank(profile=profile, even_if_noise=True), "abcde")[0] == ["b", "e", "d", "c", "a"]


def test_presets():
    assert texts(AttnRank(), "abcde")[0] == list("abcde")
    assert texts(AttnRank(preset="edges"), "abcde")[0] == list("acedb")
    assert texts(AttnRank(preset="edges"), "abcd")[0] == list("acdb")
    assert texts(AttnRank(preset="best_last"), "abcde")[0] == list("edcba")


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12),
    st.lists(st.text(max_size=5), max_size=25),
    st.sampled_from(["keep", "edges", "best_last", "profile"]),
)
def test_passages_are_only_permuted(attention, passages, how):
    profile = PositionProfile("x", tuple(attention), gains=PAYS)
    stage = AttnRank(profile=profile) if how == "profile" else AttnRank(preset=how)
    given_passages = tuple(Passage(text, id=str(i), rank=i) for i, text in enumerate(passages))
    shaped = stage(Context("q", given_passages, len))
    assert sorted(shaped.passages, key=lambda p: p.rank) == list(given_passages)
    assert not shaped.trace.stages[-1].dropped


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9), st.integers(2, 30))
def test_another_number_of_slots_keeps_the_ends_and_stays_within_the_curve(attention, slots):
    stretched = PositionProfile("x", tuple(attention)).for_slots(slots)
    assert len(stretched) == slots
    assert stretched[0] == attention[0]
    assert stretched[-1] == pytest.approx(attention[-1])
    assert min(attention) - 1e-9 <= min(stretched) <= max(stretched) <= max(attention) + 1e-9


def test_a_stretched_basin_is_a_basin():
    profile = PositionProfile("qwen", QWEN)
    assert profile.for_slots(9)[::2] == pytest.approx(QWEN)
    assert profile.for_slots(1) == (QWEN[-1],)
    order, _ = texts(AttnRank(profile=profile, even_if_noise=True), "abc")
    assert order == ["b", "c", "a"]


def test_a_profile_survives_its_file(tmp_path):
    path = tmp_path / "p.json"
    profile = PositionProfile("qwen", QWEN, 2, "accuracy", PAYS, {"prompts": 3})
    profile.save(path)
    assert PositionProfile.load(path) == profile
    assert json.loads(path.read_text())["slots"] == 5
    assert texts(AttnRank(profile=path), "abcde") == texts(AttnRank(profile=profile), "abcde")


@pytest.mark.parametrize(
    "change",
    [
        {"attention": []},
        {"attention": [0.1, -1]},
        {"attention": "ab"},
        {"order": [0, 1, 2, 3, 4]},
        {"slots": 4},
        {"gains": {"best_first": {"gain": float("nan"), "low": 0, "high": 0, "p": 1}}},
        {"gains": [1]},
        {"colour": "red"},
    ],
)
def test_a_damaged_profile_is_refused_when_the_stage_is_made(tmp_path, change):
    path = tmp_path / "p.json"
    PositionProfile("qwen", QWEN).save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidInputError):
        AttnRank(profile=str(path))


def test_no_file_no_object_and_contradictions_are_refused(tmp_path):
    for content in (None, "", "[1]", "null"):
        path = tmp_path / "none.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(InvalidInputError, match="ctxshaper profile"):
            AttnRank(profile=path)
    with pytest.raises(InvalidInputError, match="leave one out"):
        AttnRank(profile=PositionProfile("x", (1.0,)), preset="edges")
    with pytest.raises(InvalidInputError, match="best_last"):
        AttnRank(preset="middle")


def test_a_recipe_can_name_it():
    recipe = Recipe.parse("stages:\n  - AttnRank: {preset: best_last}\n")
    shaped = Pipeline(recipe.stages, tokenizer=len).shape("q", ["a", "b"])
    assert [p.text for p in shaped.passages] == ["b", "a"]
