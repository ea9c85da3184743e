"""Embeddings in a store: what one process embedded, the next does not; what is no vector of this model is made anew."""

import pickle

import numpy as np
import pytest

from ctxshaper import Embedder, InvalidInputError
from ctxshaper.models.vector_store import VectorStore, restored, rounded

pytest.importorskip("lmdb", reason="lmdb is not installed: pip install 'ctxshaper[store]'")

from ctxshaper.reading.store import KeyStore

TEXTS = ["The bridge was designed by Ada Moreau.", "Bananas are yellow.", "It rains. \ud800"]


class Watched(Embedder):
    """Keeps the texts that its model embedded."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.embedded, encode = [], self.model.encode

        def watching(texts, **more):
            self.embedded += texts
            return encode(texts, **more)

        self.model.encode = watching


def stored(path):
    with KeyStore(path, read_only=True) as store:
        return [space for space in store.stat().namespaces if space.kind == "embedding"]


def test_what_one_embedder_made_another_finds(tmp_path):
    first = Embedder(store=KeyStore(tmp_path)).embed(TEXTS)
    later = Watched(store=KeyStore(tmp_path, read_only=True))
    assert np.array_equal(later.embed(TEXTS), first)
    assert later.embedded == []
    later.embed([*TEXTS, "New."])
    assert later.embedded == ["New."]


def test_a_store_changes_no_number(embedder, tmp_path):
    assert np.array_equal(Embedder(store=KeyStore(tmp_path)).embed(TEXTS), embedder.embed(TEXTS))


def test_queries_stay_in_memory(tmp_path):
    embedder = Watched(store=KeyStore(tmp_path))
    embedder.similarity("Who designed it?", TEXTS)
    embedder.embed_query("Who designed it?")
    assert embedder.embedded.count("Who designed it?") == 1
    assert [space.entries for space in stored(tmp_path)] == [3]


def test_another_models_vectors_are_not_found(tmp_path):
    embedder = Embedder(store=KeyStore(tmp_path))
    embedder.embed(TEXTS)
    other = Watched(store=KeyStore(tmp_path))
    other.model.half()  # the same files, another type
    other.embed(TEXTS[:2])
    assert len(other.embedded) == 2
    assert [space.entries for space in stored(tmp_path)] == [3, 2]


@pytest.mark.parametrize("value", [b"", bytes(384), b"\x01" * 383, b"\x01" * 1536])
def test_what_is_no_vector_is_made_anew(value, embedder, tmp_path):
    keys = KeyStore(tmp_path)
    Embedder(store=keys).embed(TEXTS)
    true_get = keys.get_many
    keys.get_many = lambda *asked: dict.fromkeys(true_get(*asked), value)
    later = Watched(store=keys)
    assert np.array_equal(later.embed(TEXTS), embedder.embed(TEXTS))
    assert len(later.embedded) == 3


def test_rounding_moves_a_cosine_by_little():
    vectors = np.random.default_rng(0).normal(size=(200, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    again = restored(rounded(vectors))
    assert np.allclose(np.linalg.norm(again, axis=1), 1, atol=1e-5)
    assert np.abs(again @ again.T - vectors @ vectors.T).max() < 4e-3
    assert not restored(rounded(np.zeros((1, 4), dtype=np.float32))).any()


def test_an_embedder_pickles_with_its_store(tmp_path):
    Embedder(store=KeyStore(tmp_path)).embed(TEXTS)
    copied = pickle.loads(pickle.dumps(Embedder(store=KeyStore(tmp_path))))  # our own
    assert copied.store.path == tmp_path
    with pytest.raises(InvalidInputError, match=r"must be a KeyStore, but got 'keys'"):
        Embedder(store="keys")


def test_a_damaged_record_is_made_anew(embedder, tmp_path):
    with KeyStore(tmp_path) as keys:
        Embedder(store=keys).embed(TEXTS)
    file = tmp_path / "store.mdb"
    data = bytearray(file.read_bytes())
    value = rounded(embedder.embed(TEXTS[:1]))[0].tobytes()
    at = data.find(value)
    assert at > 0
    data[at + 7] ^= 4
    file.write_bytes(data)
    later = Watched(store=KeyStore(tmp_path))
    assert np.array_equal(later.embed(TEXTS), embedder.embed(TEXTS))
    assert later.embedded == TEXTS[:1]


def test_a_vector_store_asks_for_nothing_twice():
    class Counting(dict):
        def get_many(self, kind, fingerprint, keys):
            return {key: self[key] for key in keys if key in self}

        def put_many(self, kind, fingerprint, items):
            self.update(items)

    store = VectorStore(Counting(), b"x", 2)
    store.put_many(["a", "b"], np.array([[127, 0], [0, 127]], dtype=np.int8))
    found = store.get_many(["b", "a", "b", "c"])
    assert {text: row.tolist() for text, row in found.items()} == {"a": [1, 0], "b": [0, 1]}
