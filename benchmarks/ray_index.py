"""A corpus read into a store by Ray Data's actors, beside `ctxshaper index` of the same.

Passages of 131 tokens are cut from the sources of Python's standard library. Three ways to read them: one process of
`ctxshaper index` with all cores, actors of one thread each that share a store, and the same with a store each, merged
afterwards. Two times are told: of reading, without starts and loading of models, and of everything.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import numpy as np
import ray

from benchmarks.table import Table
from ctxshaper import Reader
from ctxshaper.reading.store import KeyStore
from ctxshaper.serving.ray_data import IndexPassages, merge_shards

_TOKENS = 131
_REPORT = re.compile(r"([\d,]+) tokens read in ([\d.]+) seconds")


class Timed(IndexPassages):
    """Says of each batch when it was read."""

    def __call__(self, batch: Any) -> dict[str, Any]:
        """See the base."""
        begun = time.time()
        done = super().__call__(batch)
        return done | {"begun": np.array([begun]), "ended": np.array([time.time()])}


class Apart(Timed):
    """Has a store of its own, below the folder that it is given."""

    def __init__(self, store: str) -> None:
        super().__init__(f"{store}/{os.getpid()}")


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--passages", type=int, default=400, help="how many (10,000 take some 20 minutes on two cores)")
    parser.add_argument("--actors", type=int, default=os.cpu_count() or 1, help="how many, one thread each")
    parser.add_argument("--batch", type=int, default=128, help="passages of a batch")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Read the same passages in each way, every time into an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "passages.jsonl"
        tokens = write_corpus(corpus, arguments.passages)
        rows = {"ctxshaper index": _command(corpus, Path(folder) / "command")}
        # Only now: its processes would take part of the time.
        ray.init(
            num_cpus=arguments.actors, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False
        )
        for name, kind in (("Ray Data, one store", Timed), ("Ray Data, a store each", Apart)):
            rows[name] = read_by_actors(corpus, Path(folder) / kind.__name__, kind, arguments)
        started = time.perf_counter()
        merge_shards(Path(folder) / "Apart", Path(folder) / "whole")
        merged = time.perf_counter() - started
        ray.shutdown()
        counts = [held(Path(folder) / name) for name in ("command", "Timed", "whole")]
    assert len(set(counts)) == 1, f"the stores hold {counts} keys"
    note = (
        f"{arguments.actors} actors of one thread on {os.cpu_count()} cores; load average at the end "
        f"{os.getloadavg()[0]:.1f}. Merging the stores took {merged:.2f} s."
    )
    return [Table(f"{arguments.passages:,} passages, {tokens:,} tokens", rows, [note])]


def write_corpus(file: Path, count: int) -> int:
    """That many different passages as JSON lines; how many tokens they have."""
    encoder, texts, tokens = Reader().encoder, dict[str, None](), 0
    for source in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in source.parts:
            continue
        text = source.read_text(encoding="utf-8", errors="replace")
        ids, places = encoder.data(text)
        for at in range(0, len(ids) - _TOKENS + 1, _TOKENS):
            piece = text[places[at][0] : places[at + _TOKENS - 1][1]]
            tokens += _TOKENS if piece not in texts else 0
            texts[piece] = None
            if len(texts) == count:
                lines = (json.dumps({"text": text, "id": str(n)}) + "\n" for n, text in enumerate(texts))
                file.write_text("".join(lines), encoding="utf-8")
                return tokens
    raise SystemExit(f"the standard library holds {len(texts):,} passages; ask for fewer")


def _command(corpus: Path, store: Path) -> dict[str, float]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "ctxshaper", "index", str(corpus), "--store", str(store)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = _REPORT.search(said)
    assert found, said
    return _row(int(found[1].replace(",", "")), float(found[2]), time.perf_counter() - started)


def read_by_actors(
    corpus: Path, store: Path, kind: type[IndexPassages], arguments: argparse.Namespace
) -> dict[str, float]:
    """One job over a corpus: what it read, and how long it took."""
    started = time.perf_counter()
    blocks = max(arguments.actors, arguments.passages // arguments.batch)
    done = (
        ray.data.read_json(str(corpus), override_num_blocks=blocks)
        .map_batches(
            kind,
            fn_constructor_kwargs={"store": str(store)},
            compute=ray.data.ActorPoolStrategy(size=arguments.actors),
            # They compute all the time; what is left is for reading the file.
            num_cpus=0.5,
            batch_size=arguments.batch,
        )
        .to_pandas()
    )
    wall = time.perf_counter() - started
    row = _row(int(done["read_tokens"].sum()), float(done["ended"].max() - done["begun"].min()), wall)
    return {"windows read": float(done["read_windows"].sum())} | row


def _row(tokens: int, busy: float, wall: float) -> dict[str, float]:
    return {"tokens read": tokens, "reading, s": busy, "tokens/s": tokens / busy, "in all, s": wall}


def held(folder: Path) -> int:
    """How many passages a store holds keys of."""
    with KeyStore(folder, read_only=True) as store:
        return sum(space.entries for space in store.stat().namespaces if space.kind == "keys")
