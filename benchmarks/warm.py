"""What a warm query costs by the number of passages: reading alone, and the whole call of `Pipeline.shape`.

Passages are prose of about 131 tokens that the reader remembers; every query is a new one. Reading 8,000 of them would
take this CPU minutes, so that some are read and their keys are put under the addresses of the others too, a tenth as
large: most of what a corpus holds is not about the question. Times are the process's own, on one thread, medians; the
budgets are `--budget`, and the column "x" is the ratio to the fewest passages. `shape` by BM25 is the same selection
without a reader. The last table is one long document.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch

from benchmarks.table import Table
from benchmarks.timing import of_each
from ctxshaper import Context, Passage, Pipeline, Reader, Run, ScoringStage
from ctxshaper.ranking.lexical import bm25
from ctxshaper.stages.units import Unit, titled_texts

_READ = 16  # passages that are read for their keys
_DOCUMENT = 860  # sentences of the long document: some 18,000 tokens
_WORDS = ["bridge", "river", "engineer", "council", "station", "tower", "harbour", "stone", "iron", "railway", "museum"]
_VERBS = ["was built by", "crossed", "opened beside", "was closed behind", "paid for", "drew", "was rebuilt after"]


@dataclass(frozen=True, kw_only=True)
class ByBM25(ScoringStage):
    """Keeps the sentences that share words with the question."""

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:  # noqa: ARG002
        """See the base."""
        return bm25(context.query, titled_texts(context, units)).tolist()


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--passages", nargs="+", type=int, default=[5, 80, 1000, 8000])
    parser.add_argument("--budget", nargs="+", default=["500", "auto"], help="of `shape`")
    parser.add_argument("--runs", type=int, default=5, help="queries of each kind")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Times by number of passages, and over one long document."""
    torch.set_num_threads(1)
    reader = Reader(max_tokens=2**21)
    made, asked = passages(max(arguments.passages)), questions()
    tables: dict[str, dict[str, dict[str, float]]] = {}
    for number in sorted(arguments.passages):
        some = made[:number]
        remember(reader, some)
        for name, milliseconds in timed(reader, some, arguments, asked).items():
            rows = tables.setdefault(name, {})
            first = next(iter(rows.values()), {"ms": milliseconds})["ms"]
            rows[f"{number:,} passages"] = {"ms": milliseconds, "x": milliseconds / first}
    document = [Passage(" ".join(sentence(random.Random(n), n) for n in range(_DOCUMENT)))]
    reader.remember(document)
    tokens = reader.count_tokens(document[0].source)
    rows = {name: {"ms": ms} for name, ms in timed(reader, document, arguments, asked).items()}
    note = f"One thread, {reader.dtype}, process time, medians of {arguments.runs}."
    return [
        *(Table(f"warm, {name}", rows, [note]) for name, rows in tables.items()),
        Table(f"warm, one document of {tokens:,} tokens", rows, [note]),
    ]


def timed(
    reader: Reader, some: Sequence[Passage], arguments: argparse.Namespace, asked: Iterator[str]
) -> dict[str, float]:
    """Milliseconds of a query over passages that are remembered, by what runs it."""
    found = {"reading": _median(lambda query: reader.read(query, some).passages[0].scores, arguments.runs, asked)}
    assert not reader.read(next(asked), some).notes["cache_misses"], "not all passages fit into the reader's memory"
    evidence = Pipeline.from_recipe("fast", reader=reader)
    lexical = Pipeline([ByBM25()], tokenizer=reader.count_tokens)
    for budget in arguments.budget:
        found[f"shape, {budget}"] = _median(lambda q, b=budget: evidence.shape(q, some, b), arguments.runs, asked)
        if budget != "auto":  # which BM25 knows nothing of
            found[f"shape by BM25, {budget}"] = _median(
                lambda q, b=budget: lexical.shape(q, some, b), arguments.runs, asked
            )
    return found


def _median(ask: Any, runs: int, asked: Iterator[str]) -> float:
    ask(next(asked))
    return of_each([lambda: ask(next(asked))] * runs, clock=time.process_time)


def remember(reader: Reader, some: Sequence[Passage]) -> None:
    """Let the reader know passages: some by reading them, the others by keys of the same shapes."""
    reader.remember(some[:_READ])
    real = [one for one in reader.layout.passages(some[:_READ]) for _ in one.keys]
    with reader.cache.hold({one.keys[0]: len(one.ids[0]) for one in real}) as known:
        parts = [known.passage(one.keys[0]) for one in real]
    keys = torch.cat([part.keys for part in parts], 1)
    scales = torch.cat([part.scales for part in parts if part.scales is not None], 1) / 10
    prepared = reader.layout.prepare(some)
    with reader.cache.hold(prepared.lengths) as held:
        names = list(held.missing)
        if names:
            places = torch.from_numpy(np.resize(np.arange(keys.shape[1]), sum(held.missing.values())))
            held.put_batch(names, keys[:, places], scales[:, places])


def passages(number: int) -> list[Passage]:
    """Passages of some 131 tokens, all different."""
    return [Passage(" ".join(islice(_sentences(seed), 6))) for seed in range(number)]


def _sentences(seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    return (sentence(draw, seed) for _ in count())


def sentence(draw: random.Random, number: int) -> str:
    """One sentence of some twenty-one tokens."""
    first, verb, second, third = draw.choice(_WORDS), draw.choice(_VERBS), draw.choice(_WORDS), draw.choice(_WORDS)
    return f"The {first} number {number} {verb} a {second} and the {third} in {draw.randint(1800, 1999)}."


def questions() -> Iterator[str]:
    """Questions of some twenty tokens, each a new one."""
    for number in count(1):
        yield f"Which engineer designed the northern bridge number {number}, and in which year was it opened?"
