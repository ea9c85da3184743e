"""A reader over a store: what one process read, the next does not read again; what is foreign is read anew."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from ctxshaper import HeadProfile, Passage
from ctxshaper.reading.keys import PassageKeys
from ctxshaper.reading.profile import Head
from ctxshaper.reading.store import KeyStore
from ctxshaper.reading.token_store import Encoded
from tests.reading.test_reader import QUERY, TEXTS, tiny_reader

pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")


def scores(reading):
    return np.concatenate([read.scores for read in reading.passages])


def test_a_new_reader_finds_what_another_read(tiny_model, tmp_path):
    folder = tiny_model("llama")
    first = tiny_reader(folder, store=tmp_path / "keys").read(QUERY, TEXTS)
    assert (first.notes["from_store"], first.notes["cache_misses"]) == (0, 3)
    later = tiny_reader(folder, store=KeyStore(tmp_path / "keys", read_only=True))
    for counts in ((3, 0, 0), (0, 0, 3)):
        again = later.read(QUERY, TEXTS)
        notes = again.notes
        assert (notes["from_store"], notes["cache_misses"], notes["cache_hits"]) == counts
        assert np.array_equal(scores(again), scores(first))


def test_another_process_finds_it_too(tiny_model, tmp_path):
    code = textwrap.dedent(
        f"""
        from tests.reading.test_reader import QUERY, TEXTS, tiny_reader
        reader = tiny_reader({str(tiny_model("llama"))!r}, store={str(tmp_path / "keys")!r})
        reader.remember(TEXTS)
        """
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
    notes = tiny_reader(tiny_model("llama"), store=tmp_path / "keys").read(QUERY, TEXTS).notes
    assert (notes["from_store"], notes["cache_misses"]) == (3, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"keys": "bfloat16"},
        {"profile": HeadProfile("tiny", (Head(1, 0), Head(3, 0)), filter_layer=2)},
        {"sets": ["evidence", "gem"]},
        {"dtype": "bfloat16"},
    ],
)
def test_what_was_made_otherwise_is_read_anew(tiny_model, tmp_path, other):
    from ctxshaper import Reader

    folder, store = tiny_model("llama"), tmp_path / "keys"
    tiny_reader(folder, store=store).remember(TEXTS)
    options = {"profile": tiny_reader(folder).profile, "dtype": "float32", "store": store} | other
    assert Reader(folder, **options).read(QUERY, TEXTS).notes["cache_misses"] == 3


def test_other_weights_find_nothing(tiny_model, tmp_path):
    tiny_reader(tiny_model("llama"), store=tmp_path).remember(TEXTS)
    assert tiny_reader(tiny_model("mistral"), store=tmp_path).read(QUERY, TEXTS).notes["from_store"] == 0


def test_entries_that_do_not_fit_are_read_anew(tiny_model, tmp_path):
    folder = tiny_model("llama")
    wanted = tiny_reader(folder).read(QUERY, TEXTS)
    reader = tiny_reader(folder, store=tmp_path)
    shelf = reader._model.shelf
    tokens = [reader.layout.passage(p) for p in map(Passage, TEXTS)]
    good = PassageKeys.from_bytes(_bytes(shelf, folder, tokens[0]))
    short = PassageKeys(good.keys[:, :-1], good.scales[:, :-1]).to_bytes()
    items = {tokens[0].keys[0]: short, tokens[1].keys[0]: b"PK", tokens[2].keys[0]: b""}
    reader.store.put_many("keys", shelf._fingerprint, items)
    got = reader.read(QUERY, TEXTS)
    assert (got.notes["from_store"], got.notes["cache_misses"]) == (0, 3)
    np.testing.assert_allclose(scores(got), scores(wanted), rtol=1e-4)


def _bytes(shelf, folder, tokens):
    with tiny_reader(folder)._model.shelf.take(dict(zip(tokens.keys, tokens.ids, strict=True))) as taken:
        return taken.held.passage(tokens.keys[0]).to_bytes()


def test_a_reader_with_a_store_pickles(tiny_model, tmp_path):
    import pickle

    reader = tiny_reader(tiny_model("llama"), store=tmp_path)
    reader.remember(TEXTS)
    other = pickle.loads(pickle.dumps(reader))  # our own
    assert other.read(QUERY, TEXTS).notes["from_store"] == 3


def test_a_corpus_of_any_size_is_remembered_in_groups(tiny_model, tmp_path):
    reader = tiny_reader(tiny_model("llama"), store=tmp_path, max_tokens=60)
    texts = [f"Passage number {n} about thing {n}." for n in range(40)]
    reader.remember(iter(texts))
    assert reader.read(QUERY, texts[:5]).notes["cache_misses"] == 0


def test_a_stored_passage_is_not_tokenised_again(tiny_model, tmp_path):
    folder = tiny_model("llama")
    passages = [
        Passage(text, metadata={"title": f"Title {n}"}) for n, text in enumerate([*TEXTS, "🦊 e\u0301 \ud800 x", ""])
    ]
    wanted = tiny_reader(folder, store=tmp_path).read(QUERY, passages)
    later, texts = tiny_reader(folder, store=tmp_path), []
    layout = later.layout

    class Watched:
        def __getattr__(self, name):
            return getattr(later.encoder, name)

        def data(self, text):
            texts.append(text)
            return later.encoder.data(text)

    layout._passages._encoder = Watched()
    got = later.read(QUERY, passages)
    assert texts == []
    for one, other in zip(got.passages, wanted.passages, strict=True):
        assert np.array_equal(one.offsets, other.offsets)
        assert np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    "offsets", [[], [(0, 1), (1, 2)], [(0, 3), (0, 3), (0, 3)], [(5, 9), (90_000, 90_001)], [(0, 70_000)]]
)
@pytest.mark.parametrize("largest", [10, 70_000, 200_000])
def test_tokens_come_back_from_bytes(offsets, largest):
    ids = np.arange(len(offsets), dtype=np.int32) + largest
    table = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    one = Encoded(np.array([3, 4], dtype=np.int32), ids, table)
    data = one.to_bytes()
    back = Encoded.from_bytes(data, 100_000)
    for name in ("heading", "ids", "offsets"):
        assert np.array_equal(getattr(one, name), getattr(back, name))
    assert Encoded.from_bytes(data[:-1], 100_000) is None
    assert Encoded.from_bytes(b"\x09" + data[1:], 100_000) is None
    assert Encoded.from_bytes(b"", 100_000) is None
    if offsets:
        assert Encoded.from_bytes(data, table.max() - 1) is None  # of another text
