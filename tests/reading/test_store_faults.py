"""What can go wrong with a store on disk: no wrong value, no confirmed record lost, no crash, and a warning."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.store import KeyStore
from tests.reading.store_values import key, run, script, value, values

MIB = 2**20
SIZES = (100, 3_000, 17_160, 40_000)
COUNT = 200


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store that was written in many steps, with pages that were freed and used again."""
    folder = tmp_path_factory.mktemp("whole") / "keys"
    with KeyStore(folder, max_bytes=8 * MIB) as store:
        for first in range(0, COUNT, 10):
            numbers = range(first, first + 10)
            store.put_many("keys", b"w", {key(n): value(n, SIZES[n % 4]) for n in numbers})
    return folder


def test_killed_in_mid_write_a_hundred_times(tmp_path):
    # One process forks the writers: to start Python for each would take most of the time.
    code = """
import time
folder, confirmed, killed = sys.argv[1], 0, 0
choose = random.Random(7)
KeyStore(folder).close()
for round in range(100):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        store = KeyStore(folder)
        number = confirmed
        while True:
            store.put_many("keys", b"w", {key(number): value(number), key(number + 1): value(number + 1)})
            number += 2
            os.write(write, number.to_bytes(4, "big"))
    os.close(write)
    # At least one write is confirmed; then the kill meets any moment of those that follow.
    told = os.read(read, 4)
    time.sleep(choose.random() * 0.02)
    os.kill(child, signal.SIGKILL)
    killed += os.waitpid(child, 0)[1] == signal.SIGKILL
    while more := os.read(read, 65536):
        told += more
    os.close(read)
    confirmed = int.from_bytes(told[-4:], "big")
    if round % 10 == 9:
        with KeyStore(folder) as store:
            found = store.get_many("keys", b"w", [key(n) for n in range(confirmed)])
        assert found == {key(n): value(n) for n in range(confirmed)}, (round, confirmed, len(found))
check = KeyStore(folder).verify()
assert check.sound and check.records >= confirmed, check
assert not list(Path(folder).glob("*.damaged-*"))
print(killed, confirmed)
"""
    killed, confirmed = map(int, run(code, tmp_path / "keys").split())
    assert killed == 100
    assert confirmed >= 200


@pytest.mark.parametrize(("how", "count"), [("anywhere", 20), ("tree", 30), ("first pages", 15), ("truncated", 25)])
def test_a_damaged_file_gives_no_wrong_value_and_no_crash(whole, tmp_path, how, count):
    command = [sys.executable, "-m", "tests.reading.store_damage", whole, tmp_path, how, "0", str(count)]
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    outcomes = json.loads(ended.stdout)
    assert sum(outcomes.values()) == count
    # The damage is real: it is met, and where only bytes of values changed the rest is still found.
    assert outcomes["none" if how in ("truncated", "first pages") else "some"] > 0


def test_a_truncated_file_is_set_aside_with_a_warning(whole, tmp_path, caplog):
    shutil.copytree(whole, tmp_path / "keys")
    file = tmp_path / "keys" / "store.mdb"
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    half = file.read_bytes()
    with KeyStore(tmp_path / "keys") as store:
        assert store.get_many("keys", b"w", [key(1)]) == {}
        assert store.put_many("keys", b"w", values(1)) == 1
        assert store.get_many("keys", b"w", [key(1)]) == values(1)
        (aside,) = store.stat().set_aside
    assert aside.read_bytes() == half
    assert "is damaged" in caplog.text
    assert "passages are read anew" in caplog.text


def test_a_damaged_file_that_may_only_be_read_is_left_alone(whole, tmp_path, caplog):
    shutil.copytree(whole, tmp_path / "keys")
    file = tmp_path / "keys" / "store.mdb"
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    with KeyStore(tmp_path / "keys", read_only=True) as store:
        assert store.get_many("keys", b"w", [key(1)]) == {}
        assert store.get_many("keys", b"w", [key(1)]) == {}
    assert file.exists()
    assert caplog.text.count("open for reading only") == 1


def test_a_file_cut_short_while_it_is_open(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "keys")
    code = """
folder = Path(sys.argv[1])
store = KeyStore(folder)
assert store.get_many("keys", b"w", [key(0)])
os.truncate(folder / "store.mdb", 8192)
assert store.get_many("keys", b"w", [key(0)]) == {}
assert store.put_many("keys", b"w", {key(0): value(0)}) == 1
assert store.get_many("keys", b"w", [key(0)]) == {key(0): value(0)}
"""
    run(code, tmp_path / "keys")


def test_a_damaged_record_is_absent_counted_and_written_anew(tmp_path, caplog):
    with KeyStore(tmp_path / "keys") as store:
        store.put_many("keys", b"w", values(*range(8)))
    file = tmp_path / "keys" / "store.mdb"
    data = file.read_bytes()
    at = data.index(value(3)) + 5_000
    file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with KeyStore(tmp_path / "keys") as store:
        found = store.get_many("keys", b"w", [key(n) for n in range(8)])
        assert found == values(0, 1, 2, 4, 5, 6, 7)
        assert store.damaged == 1
        store.get_many("keys", b"w", [key(3)])
        assert store.damaged == 1
        assert store.put_many("keys", b"w", values(3)) == 1
        assert store.get_many("keys", b"w", [key(3)]) == values(3)
    assert caplog.text.count("holds damaged records") == 1


def test_verify_finds_damage_and_repair_drops_it(tmp_path):
    with KeyStore(tmp_path / "keys") as store:
        store.put_many("keys", b"w", values(*range(8)))
    file = tmp_path / "keys" / "store.mdb"
    data = bytearray(file.read_bytes())
    for number in (2, 5):
        data[data.index(value(number)) + 40] ^= 128
    file.write_bytes(data)
    with KeyStore(tmp_path / "keys") as store:
        found = store.verify()
        assert (found.records, found.damaged, found.structure, found.sound) == (8, 2, (), False)
        assert store.verify().damaged == 2
        assert store.verify(repair=True).repaired
        assert store.verify().sound
        assert store.get_many("keys", b"w", [key(2), key(4)]) == values(4)


def test_a_file_of_another_kind_is_set_aside(tmp_path, caplog):
    (tmp_path / "store.mdb").write_bytes(b"this is not a store\n" * 10_000)
    with KeyStore(tmp_path) as store:
        assert store.put_many("keys", b"w", values(1)) == 1
        assert store.get_many("keys", b"w", [key(1)]) == values(1)
        assert len(store.stat().set_aside) == 1
    assert "renamed" in caplog.text


def test_a_store_of_a_later_version_is_refused_and_left_alone(tmp_path):
    code = """
from ctxshaper.reading.store import records
records.FORMAT = 2
KeyStore(sys.argv[1]).put_many("keys", b"w", {b"1": b"1"})
"""
    run(code, tmp_path / "keys")
    with KeyStore(tmp_path / "keys") as store, pytest.raises(InvalidInputError, match="format 2"):
        store.get_many("keys", b"w", [b"1"])
    assert not list((tmp_path / "keys").glob("*.damaged-*"))


def test_a_full_disk_stops_writing_and_not_reading(tmp_path):
    # A limit on the size of files fails a write in the middle, as a full disk does.
    code = """
import logging, resource
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
store = KeyStore(sys.argv[1])
store.put_many("keys", b"w", {key(n): value(n) for n in range(20)})
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
numbers, held = range(20, 220), []
for number in numbers:
    if store.put_many("keys", b"w", {key(number): value(number)}):
        held.append(number)
assert 0 < len(held) < len(numbers), held
expected = {key(n): value(n) for n in [*range(20), *held]}
assert store.get_many("keys", b"w", [key(n) for n in range(220)]) == expected
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert store.put_many("keys", b"w", {key(n): value(n) for n in numbers}) == 200
assert store.get_many("keys", b"w", [key(n) for n in numbers]) == {key(n): value(n) for n in numbers}
assert store.verify().sound
"""
    said = run(code, tmp_path / "keys")
    assert said.count("could not be written") == 1
    assert "computed anew" in said


def test_many_writers_at_once_that_also_compact(tmp_path):
    code = """
store = KeyStore(sys.argv[1], max_bytes=64 * 2**20)
mine = range(int(sys.argv[2]), int(sys.argv[2]) + 120)
for number in mine:
    assert store.put_many("keys", b"w", {key(number): value(number), key(5000): value(5000)}) == 2
    assert store.get_many("keys", b"w", [key(number)]) == {key(number): value(number)}
    if number % 20 == 5:
        store.gc()
"""
    writers = [script(code, tmp_path / "keys", 60 * n) for n in range(3)]
    for writer in writers:
        _, err = writer.communicate(timeout=120)
        assert writer.returncode == 0, err
        assert not err
    with KeyStore(tmp_path / "keys") as store:
        assert store.get_many("keys", b"w", [key(n) for n in range(240)]) == values(*range(240))
        # What two wrote at the same time is there once.
        assert store.stat().entries == 241
        assert store.verify().sound


@pytest.fixture
def open_folder():
    """A folder whose parents every user may look into."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        for place in (Path(name), Path(name) / "keys"):
            place.chmod(0o755)


def test_a_folder_that_may_not_be_written(open_folder):
    with KeyStore(open_folder / "keys") as store:
        store.put_many("keys", b"w", values(1))
    code = """
import logging
logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
folder = Path(sys.argv[1])
# All is imported before the rights are given up: the interpreter itself may not be readable then.
import ctxshaper.reading.store.checking, ctxshaper.reading.store.sharing, ctxshaper.reading.store.writing, lmdb.verify
for place in (folder.parent, folder): os.chmod(place, 0o555)
for file in folder.iterdir(): os.chmod(file, 0o444)
if os.geteuid() == 0:
    os.setuid(65534)
for read_only in (False, True):
    with KeyStore(folder, read_only=read_only) as store:
        assert store.get_many("keys", b"w", [key(1)]) == {key(1): value(1)}
        assert store.put_many("keys", b"w", {key(2): value(2)}) == 0
        assert store.get_many("keys", b"w", [key(2)]) == {}
        assert store.verify().sound
"""
    said = run(code, open_folder / "keys")
    assert "may not be written here" in said
