"""Ray Data's indexing job killed by kill -9 half way and started again: nothing that was kept is read twice.

The passages are those of `ray_index`. The second job is the first one's command once more, and what it reads is counted
by itself; what the first had kept is counted in the store when its last process is gone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ray

from benchmarks.ray_index import Timed, held, read_by_actors, write_corpus
from benchmarks.ray_index import options as options_of_index
from benchmarks.table import Table

_GONE = 15.0  # seconds without a new passage: the killed job's processes are gone


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    options_of_index(parser)
    parser.add_argument("--kill-at", type=float, default=0.5, help="share of the passages that is kept when it dies")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Start, kill, start again."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, store = Path(folder) / "passages.jsonl", Path(folder) / "keys"
        tokens = write_corpus(corpus, arguments.passages)
        command = [sys.executable, "-m", "benchmarks.ray_killed", str(corpus), str(store)]
        command += [str(arguments.actors), str(arguments.batch), str(arguments.passages)]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as job:
            while _kept(store) < arguments.kill_at * arguments.passages:
                if job.poll() is not None:
                    raise SystemExit(f"the job ended by itself with {_kept(store)} passages: ask for more passages")
                time.sleep(1)
            job.kill()
        killed = time.perf_counter() - started
        before = _settled(store)
        again = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        kept = {"windows read": float(before), "in all, s": killed}
        twice = {"windows read": before + again["windows read"] - _kept(store)}
        rows = {"kept before kill -9": kept, "started again": again, "of these read twice": twice}
    return [Table(f"{arguments.passages:,} passages of a window each, {tokens:,} tokens", rows)]


def _kept(store: Path) -> int:
    return held(store) if (store / "store.mdb").is_file() else 0


def _settled(store: Path) -> int:
    """How many passages are kept once no process of the killed job writes any more."""
    count, since = _kept(store), time.monotonic()
    while time.monotonic() - since < _GONE:
        time.sleep(0.5)
        if (now := _kept(store)) != count:
            count, since = now, time.monotonic()
    return count


def _job(corpus: str, store: str, *numbers: str) -> None:
    """What is killed: one job of Ray Data; prints what it read."""
    actors, batch, passages = map(int, numbers)
    arguments = argparse.Namespace(actors=actors, batch=batch, passages=passages)
    ray.init(num_cpus=actors, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    print(json.dumps(read_by_actors(Path(corpus), Path(store), Timed, arguments)))


if __name__ == "__main__":
    _job(*sys.argv[1:])
