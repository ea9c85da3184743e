"""What each head looked at by itself, and how a pipeline hands it to a page."""

import numpy as np
import pytest

from ctxshaper import Context, DeadlineError, EvidenceFilter, FakeReader, HeadProfile, InvalidInputError, Pipeline
from tests.reading.test_reader import QUERY, tiny_reader

PASSAGES = ["The bridge was designed by Ada Moreau in 1931. It is red.", "Bananas are rich in potassium."]


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return tiny_reader(tiny_model("llama"))


def test_the_heads_sum_to_the_reading(tiny):
    assert isinstance(tiny.profile, HeadProfile)
    heads, whole = tiny.read_heads(QUERY, PASSAGES), tiny.read(QUERY, PASSAGES)
    pairs = tiny._model.heads("evidence").pairs
    assert set(heads) == {f"layer {pair.layer}, head {pair.head}" for pair in pairs}
    assert len(heads) > 1
    for place, one in enumerate(whole.passages):
        alone = [reading.passages[place] for reading in heads.values()]
        assert all(np.array_equal(one.offsets, other.offsets) for other in alone)
        np.testing.assert_allclose(sum(other.scores for other in alone), one.scores, rtol=1e-4, atol=1e-7)
    first, second, *_ = heads.values()
    assert not np.allclose(first.passages[0].scores, second.passages[0].scores)


def test_a_pipeline_tells_what_a_shaped_context_looked_at(tiny):
    pipeline = Pipeline([EvidenceFilter()], reader=tiny)
    shaped = pipeline.shape(QUERY, PASSAGES, "20%")
    attention = pipeline.attention(shaped)
    assert [one.name for one in attention] == ["all heads", *tiny.read_heads(QUERY, PASSAGES)]
    whole = tiny.read(QUERY, PASSAGES)
    for found, expected in zip(attention[0].passages, whole.passages, strict=True):
        assert [(token.start, token.end) for token in found] == [tuple(pair) for pair in expected.offsets]
        assert [token.share for token in found] == pytest.approx(expected.scores.tolist())
    assert 'id="heat1" checked' in shaped.to_html(attention)
    with pytest.raises(DeadlineError):
        pipeline.attention(shaped, timeout=1e-9)


def test_a_reader_that_knows_no_heads_gives_all_together():
    pipeline = Pipeline([EvidenceFilter()], reader=FakeReader())
    assert [one.name for one in pipeline.attention(pipeline.shape(QUERY, PASSAGES, "50%"))] == ["all heads"]


def test_a_context_that_lost_its_passages_is_refused():
    pipeline = Pipeline([EvidenceFilter()], reader=FakeReader())
    shaped = pipeline.shape("bridge", ["Nothing of it here.", "The bridge is red."], 5)
    assert len(shaped.passages) == 1
    with pytest.raises(InvalidInputError, match="no longer holds all the passages"):
        pipeline.attention(Context.from_json(shaped.to_json(), len))
