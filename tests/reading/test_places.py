"""A passage's score and its place among the others: read by itself it has none, in one prompt it has.

So there is nothing that Found in the Middle's calibration (arXiv 2406.16008) could take off where passages are read by
themselves.
"""

import random

import numpy as np
import pytest

from benchmarks.places import above, by_place, swapped
from ctxshaper import HeadProfile, Passage, Reader, Reading
from ctxshaper.reading.profile import Head
from ctxshaper.reading.reading import PassageReading

PROFILE = HeadProfile("tiny", (Head(1, 2), Head(3, 0)), filter_layer=2)
QUERY = "Who designed the Ember Bridge?"
PASSAGES = [
    Passage(f"{text} It is number {place}.", metadata={"title": title})
    for place, (title, text) in enumerate(
        [
            ("Ember Bridge", "It was designed by Ada Moreau in 1931."),
            ("Bananas", "They are rich in potassium and grow in bunches."),
            ("Salt Bridge", "A bridge of stone that Odo Kern designed."),
            ("Oldport", "A town with a harbour; nobody knows who built it."),
            ("", "Tickets cost three euros, and the gate closes at six in the evening."),
            ("Ada Moreau", "She studied engineering and designed three bridges."),
        ]
    )
]


@pytest.fixture(scope="module")
def gem(tiny_model):
    return Reader(tiny_model("llama"), profile=PROFILE, device="cpu", dtype="float32", sets=["evidence", "gem"])


def in_shuffled_order(ask, shuffles=12):
    """The scores of each passage's tokens, in the order of PASSAGES, for each shuffle."""
    draw = random.Random(0)
    for _ in range(shuffles):
        order = draw.sample(range(len(PASSAGES)), len(PASSAGES))
        read = ask(QUERY, [PASSAGES[place] for place in order]).passages
        yield [read[order.index(place)].scores for place in range(len(PASSAGES))]


@pytest.mark.parametrize("way", ["evidence", "gem"])
def test_read_by_itself_a_passage_has_the_same_scores_in_every_place_bit_for_bit(reader, gem, way):
    ask = reader.read if way == "evidence" else lambda query, some: gem.read_gem(query, some, independent=True)
    first, *others = in_shuffled_order(ask)
    assert len({scores.mean() for scores in first}) == len(PASSAGES)
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("calibrated", [False, True])
def test_in_one_prompt_its_place_moves_it_also_where_the_places_own_pull_is_taken_off(gem, calibrated):
    table = by_place(lambda query, some: gem.read_gem(query, some, calibrated=calibrated), QUERY, PASSAGES, 6)
    assert np.ptp(table, axis=0).min() > 0


def test_the_benchmark_counts_what_it_says():
    alone = by_place(lambda _, some: _reading([len(p.source) for p in some]), QUERY, PASSAGES, 6)
    assert np.ptp(alone, axis=0).max() == swapped(alone) == 0
    by_place_only = by_place(lambda _, some: _reading(range(len(some))), QUERY, PASSAGES, 6)
    assert swapped(by_place_only) > 0.3
    assert above(np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]]), {0}) == 0.5


def _reading(means):
    offsets = np.array([[0, 1]])
    return Reading(QUERY, tuple(PassageReading(offsets, np.array([mean], dtype=np.float32)) for mean in means), {})
