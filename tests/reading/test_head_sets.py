"""Head sets, rows and their weights, without a model."""

import numpy as np
import pytest
import torch

from ctxshaper import HeadProfile, InvalidInputError
from ctxshaper.reading.head_sets import head_set, slots_of
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.profile import Head
from ctxshaper.reading.row_weights import content, rarity
from ctxshaper.reading.scoring import by_rarity

PROFILE = HeadProfile(
    "m",
    (Head(3, 5, 2.0), Head(1, 0, 0.5), Head(3, 4), Head(3, 5, 1.0)),
    filter_layer=2,
    sets={"injection": (Head(0, 7),)},
)


def test_pairs_are_sorted_and_heads_that_share_keys_share_a_slot():
    evidence = head_set(PROFILE, "evidence", heads=8, kv_heads=4)
    assert [(p.layer, p.kv_head, p.head, p.weight) for p in evidence.pairs] == [
        (1, 0, 0, 0.5), (3, 2, 4, 1.0), (3, 2, 5, 3.0),
    ]  # fmt: skip
    assert evidence.slots == ((1, 0), (3, 2))
    assert evidence.last == 3
    gem = head_set(PROFILE, "gem", heads=8, kv_heads=4)
    assert [p.head for p in gem.pairs] == list(range(8))
    assert gem.slots == ((2, 0), (2, 1), (2, 2), (2, 3))
    injection = head_set(PROFILE, "injection", heads=8, kv_heads=4)
    assert slots_of([evidence, injection]) == ((0, 3), (1, 0), (3, 2))


def test_sets_that_do_not_exist_are_refused():
    with pytest.raises(InvalidInputError, match="it has 'evidence', 'gem', 'injection'"):
        head_set(PROFILE, "order", heads=8, kv_heads=4)
    with pytest.raises(InvalidInputError, match="further sets otherwise"):
        HeadProfile("m", (Head(0, 0),), filter_layer=0, sets={"gem": (Head(0, 0),)})
    with pytest.raises(InvalidInputError, match="'all', 'content', 'rare'"):
        HeadProfile("m", (Head(0, 0),), filter_layer=0, rows="none")


def test_a_profile_with_sets_survives_its_file(tmp_path):
    PROFILE.save(tmp_path / "p.json")
    assert HeadProfile.load(tmp_path / "p.json") == PROFILE


def test_content_words_count_and_a_query_of_function_words_counts_whole():
    query = "Who designed the bridge?"
    offsets = np.array([[0, 3], [3, 12], [12, 16], [16, 19], [19, 23], [23, 24]])
    assert content(query, offsets).tolist() == [False, True, False, True, True, False]
    assert content("Who is it?", np.array([[0, 3], [3, 6], [6, 9], [9, 10]])).all()
    assert content("谁设计了这座桥", np.array([[0, 2], [2, 7]])).all()


def test_rarity_falls_with_the_passages_that_hold_a_token():
    values = rarity(np.array([0, 1, 5, 10]), 10)
    assert (np.diff(values) < 0).all()
    assert values[-1] > 0


def test_rows_by_rarity_keep_their_sum_and_raise_rare_tokens():
    rows = QueryRows(
        rows=torch.zeros(1, 4, 16), slots=(0,), rest=torch.zeros(1, 4), prefix=torch.zeros(1, 4),
        weights=torch.tensor([[0.5, 0.5, 0.0, -1.0]]), scale=1.0,
    )  # fmt: skip
    windows = [np.array([7, 8], dtype=np.int32), np.array([7], dtype=np.int32), np.array([7, 7, 9], dtype=np.int32)]
    weights = by_rarity(rows, [7, 8, 9], windows).weights[0]
    assert weights[1] > 2 * weights[0] > 0
    assert weights[2] == 0
    assert weights[3] == -1  # a question without content counts as before
    assert weights[:3].sum() == pytest.approx(1)


@pytest.mark.parametrize("rows", ["content", "rare"])
def test_a_reader_weighs_rows_by_its_profile(tiny_model, rows):
    from dataclasses import replace

    from tests.reading.test_reader import PROFILE as TINY
    from tests.reading.test_reader import QUERY, TEXTS, tiny_reader

    reader = tiny_reader(tiny_model("llama"), profile=replace(TINY, rows=rows))
    plain = tiny_reader(tiny_model("llama")).read(QUERY, TEXTS)
    got = reader.read(QUERY, TEXTS)
    assert not np.allclose(got.passages[0].scores, plain.passages[0].scores)
    backward = reader.read(QUERY, TEXTS[::-1])
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(got.passages, backward.passages[::-1], strict=True))
    if rows == "rare":
        with pytest.raises(InvalidInputError, match="rare"):
            reader.query_rows(QUERY)
