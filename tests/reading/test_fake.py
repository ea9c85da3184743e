"""The fake reads without a model, and reads as a reader does."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ctxshaper import InvalidInputError, Passage
from ctxshaper.reading.fake import FakeReader
from ctxshaper.reading.reading import PassageReader
from tests.test_growth import MOST, growth

TEXTS = ["The bridge was designed by Ada.", "Bananas, in bunches.", ""]


def test_tokens_are_words_with_their_offsets():
    read = FakeReader().read("who?", TEXTS).passages
    assert [TEXTS[1][a:b] for a, b in read[1].offsets] == ["Bananas", ",", "in", "bunches", "."]
    assert read[2].offsets.shape == (0, 2)


def test_words_of_the_query_score_highest():
    reading = FakeReader().read("Who designed the BRIDGE?", TEXTS)
    best = np.argsort(-reading.passages[0].scores)[:3]
    assert {TEXTS[0][a:b] for a, b in reading.passages[0].offsets[best]} == {"The", "bridge", "designed"}
    assert sum(p.scores.sum() for p in reading.passages) == pytest.approx(1)
    assert reading.passage_scores()[0] > reading.passage_scores()[1]


def test_the_order_of_passages_changes_nothing():
    one = FakeReader().read("the bunches", TEXTS).passages
    other = FakeReader().read("the bunches", TEXTS[::-1]).passages[::-1]
    assert all(np.array_equal(a.scores, b.scores) for a, b in zip(one, other, strict=True))


def test_scripted_scores_count_instead():
    reading = FakeReader({"bananas": 5.0, "ada": 0.0}).read("Ada", TEXTS)
    assert reading.passages[1].scores[0] == max(p.scores.max() for p in reading.passages if len(p.scores))
    assert reading.passages[0].scores[5] == 0
    with pytest.raises(InvalidInputError, match="at least 0"):
        FakeReader({"a": -1.0})


def test_an_empty_query_and_what_is_no_passage_are_refused():
    with pytest.raises(InvalidInputError, match="empty"):
        FakeReader().read(" ", TEXTS)
    with pytest.raises(InvalidInputError):
        FakeReader().remember([3])
    FakeReader().remember(TEXTS)


def test_it_copies_and_pickles():
    fake = FakeReader({"ada": 2.0})
    for other in (copy.deepcopy(fake), pickle.loads(pickle.dumps(fake))):  # our own
        assert (
            other.read("who", TEXTS).passages[0].scores.tolist() == fake.read("who", TEXTS).passages[0].scores.tolist()
        )


def test_it_is_linear_in_the_text():
    def hostile(size):
        return "a." * (size // 4) + " " * (size // 4) + "«" * (size // 4)

    ratio, _ = growth(lambda text: FakeReader().read("a", [Passage(text)]), hostile)
    assert ratio < MOST


def test_it_needs_no_torch():
    code = (
        "import sys; from ctxshaper.reading.fake import FakeReader; FakeReader().read('a', ['a b']); "
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_reader_and_fake_have_the_methods_of_the_protocol():
    import inspect

    from ctxshaper import Reader

    for name in ("read", "read_gem", "count_tokens", "remember"):
        wanted = list(inspect.signature(getattr(PassageReader, name)).parameters)
        for cls in (Reader, FakeReader):
            assert list(inspect.signature(getattr(cls, name)).parameters) == wanted
