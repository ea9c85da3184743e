"""Tokens, windows and positions, without a model: a tokenizer of words is enough."""

import threading

import numpy as np
import pytest

from ctxshaper import HeadProfile, InvalidInputError, ModelError, Passage
from ctxshaper.reading import passage_tokens
from ctxshaper.reading.layout import Layout
from ctxshaper.reading.profile import Head

PROFILE = HeadProfile("words", (Head(0, 0),), filter_layer=0, prefix="Read this: ")


class Words:
    """An encoder whose tokens are words; counts the characters that it was given."""

    def __init__(self):
        self.bos, self.characters = [1], 0

    def markup(self, text):
        return self.data(text)[0]

    def data(self, text):
        self.characters += len(text)
        ids, offsets, at = [], [], 0
        for word in text.split():
            start = text.index(word, at)
            at = start + len(word)
            ids.append(2 + sum(map(ord, word)) % 1000)
            offsets.append((start, at))
        return ids, np.array(offsets, dtype=np.int64).reshape(-1, 2)


def made(max_context=2048 + 256, profile=PROFILE, **options):
    options = {"max_context": max_context, "fingerprint": ("weights",), "max_tokens": 100_000} | options
    return Layout(Words(), profile, "words", **options)


def text(count):
    return " ".join(f"w{i}" for i in range(count))


def test_windows_tile_a_long_passage_and_overlap():
    layout = made()
    tokens = layout.passage(Passage(text(5000), metadata={"title": "A title"}))
    assert tokens.heading == 2
    assert tokens.windows[0][0] == 0
    assert tokens.windows[-1][1] == len(tokens.offsets) == 5000
    for (_, end), (start, _) in zip(tokens.windows, tokens.windows[1:], strict=False):
        assert start == end - 128
    assert all(len(layout.prefix) + len(ids) <= layout.end for ids in tokens.ids)
    assert all(ids[:2].tolist() == tokens.ids[0][:2].tolist() for ids in tokens.ids)
    assert len(set(tokens.keys)) == len(tokens.windows)


def test_scores_of_windows_are_joined_by_their_mean():
    layout = made(max_context=256 + 64)
    tokens = layout.passage(Passage(text(100)))
    found = {
        key: np.full(b - a, n, dtype=np.float32)
        for n, (key, (a, b)) in enumerate(zip(tokens.keys, tokens.windows, strict=True))
    }
    scores = layout.joined(tokens, found)
    expected = [np.mean([n for n, (a, b) in enumerate(tokens.windows) if a <= i < b]) for i in range(100)]
    np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize("max_context", [300, 320, 400])
def test_a_long_title_leaves_room_for_text(max_context):
    layout = made(max_context=max_context)
    tokens = layout.passage(Passage(text(500), metadata={"title": text(500)}))
    assert tokens.windows[-1][1] == 500
    assert all(b - a >= 1 for a, b in tokens.windows)
    assert all(len(layout.prefix) + len(ids) <= layout.end for ids in tokens.ids)


@pytest.mark.parametrize("max_context", [100, 256, 280])
def test_too_short_a_context_is_a_model_error(max_context):
    with pytest.raises(ModelError, match=f"only {max_context} positions"):
        made(max_context=max_context)


def test_too_long_a_prefix_is_a_model_error():
    long = HeadProfile("words", (Head(0, 0),), filter_layer=0, prefix=text(3000))
    with pytest.raises(ModelError, match="prefix takes 3001"):
        made(max_context=None, profile=long)


def test_kept_tokens_are_bounded_in_bytes_titles_included(monkeypatch):
    monkeypatch.setattr(passage_tokens, "_KEPT_BYTES", 1_000_000)
    layout = made()
    for i in range(20):
        layout.passage(Passage("short", metadata={"title": f"{i} " + "t" * 200_000}))
        assert layout.kept_bytes <= 1_000_000
    assert len(layout._passages._known) == 4
    for i in range(20):
        layout.passage(Passage(f"{i} " + text(10_000)))
    assert layout.kept_bytes <= 1_000_000
    assert layout.kept_bytes >= sum(tokens.nbytes + len(name[1]) for name, tokens in layout._passages._known.items())


def test_a_huge_title_is_not_tokenised_in_vain():
    layout = made()
    layout.passage(Passage("short", metadata={"title": "t " * 500_000}))
    assert layout.encoder.characters < 10_000


def test_the_same_passage_is_tokenised_once():
    layout = made()
    first = layout.passage(Passage("one two three"))
    before = layout.encoder.characters
    assert layout.passage(Passage("one two three", id="another", score=2.0)) is first
    assert layout.encoder.characters == before


def test_keys_are_of_the_content_and_of_what_shapes_a_memory():
    key = made().passage(Passage("one two")).keys
    assert made().passage(Passage("one two", id="x")).keys == key
    assert made(fingerprint=("other weights",)).passage(Passage("one two")).keys != key
    assert made().passage(Passage("one two", metadata={"title": "T"})).keys != key
    longer = HeadProfile("words", (Head(0, 0),), filter_layer=0, prefix="Read all of this: ")
    assert made(profile=longer).passage(Passage("one two")).keys != key


def test_the_query_counts_its_own_tokens():
    layout = made()
    _, rows = layout.query("who was it")
    before = len(layout.encoder.markup(PROFILE.before_query))
    assert rows == [before, before + 1, before + 2]
    with pytest.raises(InvalidInputError, match="empty"):
        layout.query(" \n")
    with pytest.raises(InvalidInputError, match=r"takes at most \d+ beside"):
        layout.query(text(300))


def test_a_causal_prompt_knows_where_its_passages_are():
    layout = made()
    passages = [Passage("one two", metadata={"title": "First"}), Passage("three")]
    ids, ranges, tokens = layout.prompt("who", passages)
    assert [ids[a:b] for a, b in ranges] == [layout.encoder.markup(p.source) for p in passages]
    assert [t.heading for t in tokens] == [1, 0]
    with pytest.raises(InvalidInputError, match="independent reading"):
        layout.prompt("who", [Passage(text(3000))])


def test_far_too_long_a_passage_is_refused_before_it_is_tokenised():
    layout = made(max_tokens=10)
    before = layout.encoder.characters
    with pytest.raises(InvalidInputError, match="split the passage"):
        layout.passage(Passage("a" * 321))
    assert layout.encoder.characters == before


def test_threads_share_a_layout():
    layout = made()
    passages = [Passage(text(n)) for n in range(1, 60)]
    results = []
    threads = [
        threading.Thread(target=lambda: results.append([layout.passage(p).keys for p in passages])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(keys == results[0] for keys in results)
    assert layout.kept_bytes == sum(passage_tokens._bytes_of(n, t) for n, t in layout._passages._known.items())
