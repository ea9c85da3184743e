"""Stores that were written apart, merged into one."""

import pytest

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.store import KeyStore
from tests.reading.store_values import key, value, values
from tests.reading.test_reader import QUERY, TEXTS, tiny_reader

MIB = 2**20


def test_the_whole_holds_what_the_parts_held(tmp_path):
    with KeyStore(tmp_path / "a") as a, KeyStore(tmp_path / "b") as b, KeyStore(tmp_path / "whole") as whole:
        a.put_many("keys", b"w", values(*range(200)))
        a.put_many("embedding", b"v", {key(1): b"vector"})
        b.put_many("keys", b"w", values(*range(150, 300)))
        b.put_many("keys", b"w", {key(299): b"changed"})
        b.put_many("keys", b"other", {key(1): b"of other weights"})
        assert (whole.merge(a), whole.merge(b)) == (201, 151)
        found = whole.get_many("keys", b"w", [key(n) for n in range(300)])
        assert found == values(*range(299)) | {key(299): b"changed"}
        assert whole.get_many("embedding", b"v", [key(1)]) == {key(1): b"vector"}
        assert whole.get_many("keys", b"other", [key(1)]) == {key(1): b"of other weights"}
        kinds = {(space.kind, space.fingerprint): space.entries for space in whole.stat().namespaces}
        assert kinds == {("keys", b"w"): 300, ("embedding", b"v"): 1, ("keys", b"other"): 1}
        assert whole.verify().sound
        assert a.stat().entries == 201


def test_merged_twice_it_is_the_same(tmp_path):
    with KeyStore(tmp_path / "a") as a, KeyStore(tmp_path / "whole") as whole:
        a.put_many("keys", b"w", values(*range(40)))
        assert whole.merge(a) == whole.merge(a) == 40
        assert whole.stat().entries == 40
        assert KeyStore(tmp_path / "none").merge(KeyStore(tmp_path / "empty")) == 0


def test_what_does_not_fit_is_refused_and_nothing_is_pushed_out(tmp_path):
    with KeyStore(tmp_path / "a") as a, KeyStore(tmp_path / "small", max_bytes=4 * MIB) as small:
        a.put_many("keys", b"w", values(*range(200)))
        small.put_many("keys", b"w", values(500))
        with pytest.raises(InvalidInputError, match=r"raise it, as in KeyStore\(path, max_bytes="):
            small.merge(a)
        assert small.get_many("keys", b"w", [key(500)]) == values(500)
    with KeyStore(tmp_path / "small", max_bytes=16 * MIB) as larger:
        assert larger.merge(KeyStore(tmp_path / "a", read_only=True)) == 200


def test_a_damaged_record_is_left_behind(tmp_path):
    with KeyStore(tmp_path / "a") as a:
        a.put_many("keys", b"w", values(*range(20)))
    file = tmp_path / "a" / "store.mdb"
    data = file.read_bytes()
    at = data.index(value(7)[:4000])
    file.write_bytes(data[: at + 50] + b"damaged" + data[at + 57 :])
    with KeyStore(tmp_path / "whole") as whole:
        assert whole.merge(KeyStore(tmp_path / "a", read_only=True)) == 19
        assert whole.get_many("keys", b"w", [key(7), key(8)]) == values(8)


def test_a_reader_over_the_whole_reads_nothing_again(tiny_model, tmp_path):
    for n, text in enumerate(TEXTS):
        tiny_reader(tiny_model("llama"), store=tmp_path / f"shard{n}").remember([text])
    with KeyStore(tmp_path / "whole") as whole:
        for n in range(len(TEXTS)):
            whole.merge(KeyStore(tmp_path / f"shard{n}", read_only=True))
    notes = tiny_reader(tiny_model("llama"), store=tmp_path / "whole").read(QUERY, TEXTS).notes
    assert (notes["from_store"], notes["cache_misses"]) == (3, 0)
