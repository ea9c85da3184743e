"""All units at once have the scores that each passage gives its own."""

import itertools
import random

import numpy as np

from ctxshaper.data import Span
from ctxshaper.reading.reading import PassageReading
from ctxshaper.reading.unit_scores import unit_scores


def test_they_are_those_of_each_passage():
    draw = random.Random(1)
    for _ in range(100):
        readings, owners, spans, expected, sizes = [], [], [], [], []
        for index in range(draw.randrange(0, 5)):
            ends = sorted(draw.randrange(1, 60) for _ in range(draw.randrange(0, 20)))
            offsets = np.array(list(zip([0, *ends], ends, strict=False)), dtype=np.int64).reshape(-1, 2)
            scores = np.array([draw.random() for _ in ends], dtype=np.float32)
            readings.append(PassageReading(offsets, scores))
            cuts = sorted({0, 60, *(draw.randrange(60) for _ in range(4))})
            own = [Span(a, b) for a, b in itertools.pairwise(cuts) if draw.random() < 0.8]
            owners += [index] * len(own)
            spans += own
            expected += list(readings[-1].span_scores(own))
            sizes += list(readings[-1].span_tokens(own))
        found, counts = unit_scores(readings, np.array(owners, dtype=np.int64), spans)
        assert counts.tolist() == sizes
        np.testing.assert_allclose(found, expected, rtol=1e-6)
