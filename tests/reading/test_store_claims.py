"""Claims: of several processes and threads that lack the same passage, one reads it."""

import signal
import threading
import time

import pytest

from ctxshaper import Passage
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import DeadlineError
from ctxshaper.reading import shelf
from ctxshaper.reading.store import KeyStore
from tests.reading.store_values import key, run, script, value
from tests.reading.test_many import PASSAGES
from tests.reading.test_reader import QUERY, tiny_reader

CLAIM = """
import time
with KeyStore(sys.argv[1]) as store, store.claimed("keys", b"w", [key(1), key(2)]) as own:
    print(sorted(own) == [key(1), key(2)], flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path):
    with KeyStore(tmp_path / "keys") as opened:
        yield opened


def test_threads_do_not_claim_the_same_and_what_is_let_go_is_free(store):
    with store.claimed("keys", b"w", [key(1), key(2)]) as first:
        assert first == {key(1), key(2)}
        with store.claimed("keys", b"w", [key(2), key(3)]) as second, KeyStore(store.path) as other:
            assert second == {key(3)}
            with other.claimed("keys", b"w", [key(1), key(3), key(4)]) as third:
                assert third == {key(4)}
        with store.claimed("keys", b"other weights", [key(1)]) as another:
            assert another == {key(1)}
    with store.claimed("keys", b"w", [key(1), key(2), key(3)]) as again:
        assert len(again) == 3


def test_processes_do_not_claim_the_same_until_one_is_killed(store):
    process = script(CLAIM, store.path)
    assert process.stdout.readline() == "True\n"
    with store.claimed("keys", b"w", [key(2), key(3)]) as own:
        assert own == {key(3)}
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with store.claimed("keys", b"w", [key(2), key(3)]) as own:
        assert own == {key(2), key(3)}


def test_a_child_does_not_let_go_of_what_its_parent_claimed(store):
    code = """
store = KeyStore(sys.argv[1])
with store.claimed("keys", b"w", [key(1)]):
    child = os.fork()
    if child == 0:
        with store.claimed("keys", b"w", [key(1), key(2)]) as own:
            code = 0 if own == {key(2)} else 3
        store.close()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    child = os.fork()
    if child == 0:
        with store.claimed("keys", b"w", [key(1)]) as own:
            os._exit(0 if not own else 4)
    assert os.waitpid(child, 0)[1] == 0
"""
    run(code, store.path)


def test_where_there_are_no_locks_everybody_computes(store):
    (store.path / "store.claims").mkdir()
    with store.claimed("keys", b"w", [key(1)]) as own:
        assert own == {key(1)}


def test_open_for_reading_only_everything_is_ones_own(store):
    store.put_many("keys", b"w", {key(1): value(1)})
    with (
        KeyStore(store.path) as other,
        other.claimed("keys", b"w", [key(1)]),
        KeyStore(store.path, read_only=True) as reader,
        reader.claimed("keys", b"w", [key(1)]) as own,
    ):
        assert own == {key(1)}


def test_two_readers_asked_at_once_read_a_passage_once(tiny_model, tmp_path, monkeypatch):
    readers = [tiny_reader(tiny_model("llama"), store=tmp_path / "keys") for _ in range(2)]
    runs, notes = [], []
    for reader in readers:
        reader.read(QUERY, ["warm"])
        forward = reader.decoder.forward

        def slow(ids, *rest, forward=forward):
            runs.append(ids.shape[1])
            time.sleep(0.3)  # so that both are under way at once
            return forward(ids, *rest)

        monkeypatch.setattr(reader.decoder, "forward", slow)
    work = [threading.Thread(target=lambda r=r: notes.append(r.read(QUERY, PASSAGES).notes)) for r in readers]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(runs) == 1
    assert sorted(note["cache_misses"] for note in notes) == [0, len(PASSAGES)]
    assert sorted(note["from_store"] for note in notes) == [0, len(PASSAGES)]


def test_who_waits_keeps_its_deadline_and_its_patience(tiny_model, tmp_path, monkeypatch):
    reader = tiny_reader(tiny_model("llama"), store=tmp_path / "keys")
    wanted = tiny_reader(tiny_model("llama")).read(QUERY, PASSAGES)
    claimed = []
    monkeypatch.setattr(
        reader.store, "claimed", lambda *names: (claimed.append(names), KeyStore.claimed(reader.store, *names))[1]
    )
    reader.read(QUERY, ["warm"])
    kind, fingerprint, _ = claimed[-1]
    names = [name for tokens in reader.layout.passages(list(map(Passage.of, PASSAGES))) for name in tokens.keys]
    with KeyStore(tmp_path / "keys") as other, other.claimed(kind, fingerprint, names) as own:
        assert len(own) == len(names)
        with under(Deadline(0.2)), pytest.raises(DeadlineError):
            reader.read(QUERY, PASSAGES)
        monkeypatch.setattr(shelf, "_PATIENCE", 0.1)
        got = reader.read(QUERY, PASSAGES)
    assert got.notes["cache_misses"] == len(PASSAGES)
    assert [list(p.scores) for p in got.passages] == [list(p.scores) for p in wanted.passages]
