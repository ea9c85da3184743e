"""All units at once have the scores that each passage gives its own."""

import itertools
import random

import numpy as np

from ctxshaper.data import Span
from ctxshaper.reading.reading import PassageReading
from ctxshaper.reading.unit_scores import peak_scores, unit_scores


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


def test_a_long_unit_has_the_score_of_its_best_window():
    draw = random.Random(2)
    for _ in range(60):
        count, width = draw.randrange(1, 90), draw.randrange(1, 12)
        offsets = np.array([(n, n + 1) for n in range(count)], dtype=np.int64)
        scores = np.array([draw.uniform(-3, 3) for _ in range(count)], dtype=np.float32)
        start = draw.randrange(count)
        end = draw.randrange(start, count) + 1
        found, sizes = peak_scores([PassageReading(offsets, scores)], np.array([0]), [Span(start, end)], width)
        own, step = scores[start:end].astype(np.float64), max(1, width // 2)
        spare = max(0, len(own) - width)
        starts = [*range(0, spare, step), spare]
        assert sizes.tolist() == [len(own)]
        np.testing.assert_allclose(found[0], max(own[at : at + width].mean() for at in starts), atol=1e-6)


def test_a_unit_without_tokens_has_no_peak():
    empty = PassageReading(np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.float32))
    assert [found.tolist() for found in peak_scores([empty], np.array([0]), [Span(0, 9)], 4)] == [[0.0], [0]]
    assert [len(found) for found in peak_scores([], np.zeros(0, dtype=np.int64), [], 4)] == [0, 0]
