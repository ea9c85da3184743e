"""The store on disk: what it keeps, its bound, what it evicts, and who may share it."""

import copy
import os
import pickle
import threading

import pytest

from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import DeadlineError, InvalidInputError
from ctxshaper.reading.store import KeyStore
from tests.reading.store_values import key, run, value, values

MIB = 2**20


@pytest.fixture
def store(tmp_path):
    with KeyStore(tmp_path / "keys") as opened:
        yield opened


def test_what_was_put_is_found_again_after_reopening(tmp_path):
    with KeyStore(tmp_path / "keys") as first:
        assert first.put_many("keys", b"weights", values(1, 2, 3)) == 3
    with KeyStore(tmp_path / "keys") as second:
        assert second.get_many("keys", b"weights", [key(2), key(9), key(1)]) == values(1, 2)


@pytest.mark.parametrize("size", [0, 1, 1_999, 2_100, 4_080, 17_160, 300_000])
def test_values_of_any_size(store, size):
    store.put_many("tokens", b"w", [(key(size), value(size, size)), (b"", b"an empty key")])
    assert store.get_many("tokens", b"w", [key(size), b""]) == {key(size): value(size, size), b"": b"an empty key"}


def test_nothing_is_found_under_another_kind_or_other_weights(store):
    store.put_many("keys", b"weights", values(1))
    assert store.get_many("keys", b"other weights", [key(1)]) == {}
    assert store.get_many("embedding", b"weights", [key(1)]) == {}
    # Lengths belong to the hash: parts that join to the same bytes are not the same.
    store.put_many("ab", b"c", {b"d": b"1"})
    assert store.get_many("a", b"bc", [b"d"]) == {}
    assert store.get_many("ab", b"cd", [b""]) == {}


def test_the_same_record_is_written_once_and_a_changed_one_replaces_it(store):
    store.put_many("keys", b"w", values(*range(20)))
    before = store.stat()
    assert store.put_many("keys", b"w", values(*range(20))) == 20
    assert store.stat().entries == before.entries == 20
    store.put_many("keys", b"w", {key(3): b"new"})
    assert store.get_many("keys", b"w", [key(3), key(4)]) == {key(3): b"new", **values(4)}


def test_keys_of_passages_take_at_most_140_bytes_a_token(tmp_path):
    with KeyStore(tmp_path / "batch") as store:
        store.put_many("keys", b"w", values(*range(1000)))
        batch = store.stat().file_bytes
        assert store.gc() >= 0
        packed = store.stat().file_bytes
    with KeyStore(tmp_path / "single") as store:
        for number in range(600):
            store.put_many("keys", b"w", values(number))
        single = store.stat().file_bytes
    assert packed / 130_000 <= batch / 130_000 <= 137
    assert single / (600 * 130) <= 140


def test_the_file_stays_under_its_bound_and_what_is_used_stays(tmp_path):
    hot = list(range(6))
    with KeyStore(tmp_path / "keys", max_bytes=4 * MIB) as store:
        for number in range(400):
            assert store.put_many("keys", b"w", values(number)) == 1
            if number > 10:
                store.get_many("keys", b"w", [key(n) for n in hot])
            assert store.stat().file_bytes <= 4 * MIB
        assert store.get_many("keys", b"w", [key(n) for n in hot]) == values(*hot)
        assert store.get_many("keys", b"w", [key(399)]) == values(399)
        assert store.get_many("keys", b"w", [key(n) for n in range(20, 100)]) == {}
        assert store.verify().sound


def test_uses_by_another_process_count_once_it_closes(tmp_path):
    with KeyStore(tmp_path / "keys", max_bytes=4 * MIB) as store:
        # Blocks close at 64 KiB or more, so these two runs of records share none.
        store.put_many("keys", b"w", values(*range(40)))
        store.put_many("keys", b"w", values(*range(40, 120)))
        run("store = KeyStore(sys.argv[1])\nassert store.get_many('keys', b'w', [key(1)])", tmp_path / "keys")
        store.put_many("keys", b"w", values(*range(120, 230)))
        assert store.get_many("keys", b"w", [key(1)]) == values(1)
        assert store.get_many("keys", b"w", [key(50)]) == {}


def test_gc_makes_the_file_smaller_and_the_bound_outlives_the_process(tmp_path):
    with KeyStore(tmp_path / "keys", max_bytes=8 * MIB) as store:
        store.put_many("keys", b"w", values(*range(300)))
        before = store.stat().file_bytes
        freed = store.gc(2 * MIB)
        assert freed == before - store.stat().file_bytes > 0
        assert store.stat().file_bytes <= 2 * MIB
        assert store.get_many("keys", b"w", [key(299)]) == values(299)
        assert store.verify().sound
    with KeyStore(tmp_path / "keys") as store:
        store.get_many("keys", b"w", [])
        assert store.stat().max_bytes == 8 * MIB


def test_a_store_compacted_by_another_process_goes_on(tmp_path):
    with KeyStore(tmp_path / "keys") as store:
        store.put_many("keys", b"w", values(1, 2))
        run("KeyStore(sys.argv[1]).gc()", tmp_path / "keys")
        assert store.put_many("keys", b"w", values(3)) == 1
        run("assert KeyStore(sys.argv[1]).get_many('keys', b'w', [key(3)])", tmp_path / "keys")
        run("assert KeyStore(sys.argv[1]).put_many('keys', b'w', {key(4): value(4)}) == 1", tmp_path / "keys")
        assert store.get_many("keys", b"w", [key(n) for n in range(1, 5)]) == values(1, 2, 3, 4)


def test_a_file_that_another_process_made_larger_is_followed(tmp_path):
    with KeyStore(tmp_path / "keys") as store:
        store.put_many("keys", b"w", values(0))
        # Past the 64 MiB that are mapped at first.
        code = "KeyStore(sys.argv[1]).put_many('big', b'w', {key(n): value(n, 2**20) for n in range(80)})"
        run(code, tmp_path / "keys")
        assert store.get_many("big", b"w", [key(79)]) == {key(79): value(79, MIB)}
        assert store.put_many("keys", b"w", values(1)) == 1


def test_a_value_too_large_for_the_bound_is_left_out_and_said(tmp_path, caplog):
    with KeyStore(tmp_path / "keys", max_bytes=MIB) as store:
        assert store.put_many("keys", b"w", {b"large": bytes(MIB // 2), b"small": b"1"}) == 1
        assert store.get_many("keys", b"w", [b"large", b"small"]) == {b"small": b"1"}
    assert "takes no value above" in caplog.text


def test_opened_twice_it_is_one_environment_until_the_last_closes(tmp_path):
    first, second = KeyStore(tmp_path / "keys"), KeyStore(str(tmp_path / "nowhere" / ".." / "keys"))
    first.put_many("keys", b"w", values(1))
    assert second.get_many("keys", b"w", [key(1)]) == values(1)
    first.close()
    first.close()
    assert second.get_many("keys", b"w", [key(1)]) == values(1)
    with pytest.raises(InvalidInputError, match="was closed"):
        first.get_many("keys", b"w", [key(1)])
    second.close()


def test_a_reader_and_a_writer_of_the_same_path(tmp_path):
    KeyStore(tmp_path / "keys").put_many("keys", b"w", values(1))
    with KeyStore(tmp_path / "keys", read_only=True) as reader:
        assert reader.get_many("keys", b"w", [key(1)]) == values(1)
        assert reader.put_many("keys", b"w", values(2)) == 0
        with KeyStore(tmp_path / "keys") as writer:
            assert writer.put_many("keys", b"w", values(3)) == 1
        assert reader.get_many("keys", b"w", [key(1), key(2), key(3)]) == values(1, 3)
        with pytest.raises(InvalidInputError, match="read-only"):
            reader.gc()


def test_pickled_and_copied_by_its_path(store):
    store.put_many("keys", b"w", values(1))
    for other in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
        assert other.get_many("keys", b"w", [key(1)]) == values(1)
        other.close()


def test_threads_read_and_write_at_once(tmp_path):
    wrong: list[object] = []

    def work(store: KeyStore, first: int) -> None:
        try:
            for number in range(first, first + 40):
                store.put_many("keys", b"w", values(number))
                if store.get_many("keys", b"w", [key(number)]) != values(number):
                    wrong.append(number)
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)

    with KeyStore(tmp_path / "keys") as store:
        threads = [threading.Thread(target=work, args=(store, 100 * n)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert store.stat().entries == 320


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_in_the_middle_of_threads_use_opens_its_own(tmp_path):
    # In a process of its own, where no other library has threads.
    code = """
import threading
store = KeyStore(sys.argv[1])
stop = threading.Event()
def work():
    number = 1000
    while not stop.is_set():
        store.put_many("keys", b"w", {key(number): value(number)})
        store.get_many("keys", b"w", [key(number)])
        number += 1
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
try:
    for number in range(20):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            code = 1
            try:
                assert store.put_many("keys", b"w", {key(number): value(number)}) == 1
                code = 0 if store.get_many("keys", b"w", [key(number)]) == {key(number): value(number)} else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
finally:
    stop.set()
    for thread in threads: thread.join()
assert store.get_many("keys", b"w", [key(n) for n in range(20)]) == {key(n): value(n) for n in range(20)}
assert store.verify().sound
"""
    run(code, tmp_path / "keys")


def test_a_deadline_ends_long_reads_and_writes(store):
    store.put_many("keys", b"w", values(1))
    late = Deadline(60)
    late.cancel()
    with under(late):
        with pytest.raises(DeadlineError):
            store.get_many("keys", b"w", [key(1)])
        with pytest.raises(DeadlineError):
            store.put_many("keys", b"w", values(2))
    assert store.get_many("keys", b"w", [key(1), key(2)]) == values(1)


def test_mistakes_say_what_to_do(tmp_path):
    with pytest.raises(InvalidInputError, match="at least 1048576"):
        KeyStore(tmp_path, max_bytes=1000)
    with pytest.raises(InvalidInputError, match="there is no store at"):
        KeyStore(tmp_path / "nowhere", read_only=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="cannot be made"):
        KeyStore(tmp_path / "file")


def test_without_lmdb_the_error_names_the_install_line(tmp_path):
    code = """
sys.modules["lmdb"] = None
from ctxshaper.errors import MissingDependencyError
try:
    KeyStore(sys.argv[1])
except MissingDependencyError as error:
    print(error)
"""
    assert "pip install 'ctxshaper[store]'" in run(code, tmp_path / "keys")
    assert not (tmp_path / "keys").exists()


def test_importing_the_store_imports_nothing_heavy():
    assert run("print([name for name in ('lmdb', 'numpy', 'torch') if name in sys.modules])").strip() == "[]"
