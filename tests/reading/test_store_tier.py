"""A reader over a store: what one process read, the next does not read again; what is foreign is read anew."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from ctxshaper import HeadProfile
from ctxshaper.reading.keys import PassageKeys
from ctxshaper.reading.profile import Head
from ctxshaper.reading.store import KeyStore
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
    tokens = [reader.layout.passage(p) for p in map(_passage, TEXTS)]
    good = PassageKeys.from_bytes(_bytes(shelf, folder, tokens[0]))
    short = PassageKeys(good.keys[:, :-1], good.scales[:, :-1]).to_bytes()
    items = {tokens[0].keys[0]: short, tokens[1].keys[0]: b"PK", tokens[2].keys[0]: b""}
    reader.store.put_many("keys", shelf._fingerprint, items)
    got = reader.read(QUERY, TEXTS)
    assert (got.notes["from_store"], got.notes["cache_misses"]) == (0, 3)
    np.testing.assert_allclose(scores(got), scores(wanted), rtol=1e-4)


def _passage(text):
    from ctxshaper import Passage

    return Passage(text)


def _bytes(shelf, folder, tokens):
    with tiny_reader(folder)._model.shelf.take(dict(zip(tokens.keys, tokens.ids, strict=True))) as taken:
        return taken.held.passage(tokens.keys[0]).to_bytes()


def test_a_reader_with_a_store_pickles(tiny_model, tmp_path):
    import pickle

    reader = tiny_reader(tiny_model("llama"), store=tmp_path)
    reader.remember(TEXTS)
    other = pickle.loads(pickle.dumps(reader))  # noqa: S301  # our own
    assert other.read(QUERY, TEXTS).notes["from_store"] == 3


def test_a_corpus_of_any_size_is_remembered_in_groups(tiny_model, tmp_path):
    reader = tiny_reader(tiny_model("llama"), store=tmp_path, max_tokens=60)
    texts = [f"Passage number {n} about thing {n}." for n in range(40)]
    reader.remember(iter(texts))
    assert reader.read(QUERY, texts[:5]).notes["cache_misses"] == 0
