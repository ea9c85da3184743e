"""A script for the store's tests: damages copies of a store, and uses each in a process that may crash alone.

Arguments: the folder of a whole store, a folder for copies, how the file is damaged, the seeds from and to.
"""

import json
import logging
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from ctxshaper.reading.store import KeyStore
from tests.reading.store_values import key, value

SIZES = (100, 3_000, 17_160, 40_000)
COUNT = 200
PAGE = 4096


def expected(number: int) -> bytes:
    return value(number, SIZES[number % 4])


def damage(file: Path, how: str, choose: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if how == "truncated":
        os.truncate(file, choose.randrange(len(data)))
        return
    pages = range(len(data) // PAGE)
    # Pages that hold their own number and are marked as a branch or a leaf.
    tree = [
        p for p in pages[2:] if data[p * PAGE] == p % 256 and data[p * PAGE + 10 : p * PAGE + 12] in (b"\1\0", b"\2\0")
    ]
    for _ in range(choose.choice([1, 3, 30])):
        at = {
            "anywhere": choose.randrange(len(data)),
            "first pages": choose.randrange(2) * PAGE + choose.randrange(160),
            "tree": choose.choice(tree) * PAGE + choose.choice([choose.randrange(64), choose.randrange(PAGE)]),
        }[how]
        data[at] ^= 1 << choose.randrange(8)
    file.write_bytes(data)


def use(folder: Path) -> int:
    """Read, write, evict, compact and check; every value that is returned must be right. How many were found first."""
    numbers = range(COUNT + 40)
    with KeyStore(folder, max_bytes=8 * 2**20) as store:

        def right() -> int:
            found = store.get_many("keys", b"w", [key(n) for n in numbers])
            assert all(found[key(n)] == expected(n) for n in numbers if key(n) in found)
            return len(found)

        first = right()
        for number in range(COUNT, COUNT + 40, 10):
            store.put_many("keys", b"w", {key(n): expected(n) for n in range(number, number + 10)})
        right()
        assert store.put_many("keys", b"w", {key(n): expected(n) for n in range(COUNT)}) in (0, COUNT)
        right()
        store.gc(4 * 2**20)
        right()
        store.verify(repair=True)
        store.put_many("keys", b"w", {key(n): expected(n) for n in range(20)})
        assert store.verify().sound
        assert store.get_many("keys", b"w", [key(n) for n in range(20)]) == {key(n): expected(n) for n in range(20)}
    return first


def main() -> None:
    whole, copies, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    logging.disable(logging.CRITICAL)
    outcomes: dict[str, int] = {"all": 0, "some": 0, "none": 0}
    for seed in range(int(sys.argv[4]), int(sys.argv[5])):
        folder = copies / str(seed)
        shutil.copytree(whole, folder)
        damage(folder / "store.mdb", how, random.Random(seed))
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            try:
                os.write(write, use(folder).to_bytes(4, "big"))
            except BaseException:
                logging.disable(logging.NOTSET)
                logging.exception("seed %d", seed)
                os._exit(3)
            os._exit(0)
        os.close(write)
        status = os.waitpid(child, 0)[1]
        assert status == 0, f"damage {how}, seed {seed}: the process ended with {status}"
        found = int.from_bytes(os.read(read, 4), "big")
        os.close(read)
        outcomes["all" if found == COUNT else "some" if found else "none"] += 1
        shutil.rmtree(folder)
    sys.stdout.write(json.dumps(outcomes))


main()
