"""What reading costs on this machine: prefill against a causal pass, and queries over passages read before.

The text is Wikipedia-like prose of the project's own making; nothing is read twice unless that is what is timed, and
every query is a new one. Passages have 110 words, or fewer where all together would exceed `--words`. The floor of a
prefill is its matrix products at the rate that a large product of the same type reaches here.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from functools import partial
from itertools import count

import torch

from benchmarks.table import Table
from benchmarks.timing import milliseconds, of_each
from ctxshaper import LanguageModel, Reader

VOCABULARY = (
    "the a northern bridge river engineer designed opened year city of in was built by council station "
    "tower harbour stone iron railway traffic museum later during which had been first second old new "
    "plan cost workers company opened again winter storm repair committee 1894 1902 1911 1923 "
)
WORDS = VOCABULARY.split()
_CAUSAL = 10  # passages in the prompt of the causal pass


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--model", help="of the reader; the embedded one if left out")
    parser.add_argument("--passages", nargs="+", type=int, default=[5, 80, 1000, 8000])
    parser.add_argument("--words", type=int, default=100_000, help="the most words of all passages together")
    parser.add_argument("--threads", type=int, help="of torch; torch's own choice if left out")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Times of prefill and of warm queries by number of passages, and the causal pass beside."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    reader = Reader(arguments.model, max_tokens=2**22, cache_bytes=8 * 2**30)
    asked, fresh = queries(), count()
    reader.read(next(asked), made(2, 40, next(fresh)))
    rate = matmul_rate(reader.dtype)
    rows: dict[str, dict[str, float]] = {}
    for number in arguments.passages:
        words = max(1, min(110, arguments.words // number))
        times = 3 if number <= 100 else 1
        sets = [made(number, words, next(fresh)) for _ in range(times)]
        tokens = sum(map(reader.count_tokens, sets[-1]))
        prefill = of_each(partial(reader.read, next(asked), texts) for texts in sets)
        misses = reader.read(next(asked), sets[-1]).notes["cache_misses"]
        figures = {"tokens": tokens, "prefill and a query, ms": prefill, "floor, ms": floor(reader, tokens, rate)}
        figures["x floor"] = figures["prefill and a query, ms"] / figures["floor, ms"]
        if not misses:
            warm = of_each(partial(reader.read, next(asked), sets[-1]) for _ in range(9 if number <= 100 else 5))
            figures |= {"a new query, all passages known, ms": warm, "x as fast": prefill / warm}
        rows[f"{number:,} passages"] = figures
    notes = [
        f"{torch.get_num_threads()} threads, {reader.dtype}; large products run at {rate / 1e9:.0f} GFLOP/s.",
        "Where no warm query is given, not all passages fitted into the reader's memory.",
    ]
    return [Table("reading by a Reader", rows, notes), causal(reader, next(asked), next(fresh))]


def causal(reader: Reader, query: str, seed: int) -> Table:
    """A causal pass through the whole model, as transformers runs it by default, beside reading the same text."""
    whole = LanguageModel(reader.source.location, device="cpu", dtype="float32").model
    texts = made(_CAUSAL, 110, seed)
    profile = reader.profile
    prompt = profile.prefix + "\n\n".join(texts) + profile.before_query + query
    ids = torch.tensor([reader.encoder.markup(prompt)])
    with torch.inference_mode():
        whole(ids[:, :64])
        causally = milliseconds(lambda: whole(ids), 3)
    read = of_each(partial(reader.read, query, made(_CAUSAL, 110, seed + n)) for n in range(1000, 1003))
    rows = {
        "causal pass, whole model, float32": {"tokens": ids.shape[1], "ms": causally, "x as fast": 1.0},
        "prefill and a query": {"tokens": ids.shape[1], "ms": read, "x as fast": causally / read},
    }
    return Table(f"{_CAUSAL} passages and a query", rows)


def made(number: int, words: int, seed: int) -> list[str]:
    """Passages of prose, others for each seed."""
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(words)) + "." for _ in range(number)]


def queries() -> Iterator[str]:
    """Questions of some twenty tokens, each a new one."""
    for number in count(1):
        yield f"Which engineer designed the northern bridge number {number}, and in which year was it opened?"


def floor(reader: Reader, tokens: int, rate: float) -> float:
    """Milliseconds of the matrix products of a prefill; the last layer only needs its keys, and counts as nothing."""
    config, layers = reader.decoder.config, reader.decoder.layers
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_layer = config.hidden_size * (
        2 * head * (config.num_attention_heads + config.num_key_value_heads) + 3 * config.intermediate_size
    )
    return float(2e3 * tokens * per_layer * (layers - 1) / rate)


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product."""
    a, b = torch.randn(2048, 576).to(dtype), torch.randn(1536, 576).to(dtype)
    seconds = milliseconds(lambda: [torch.nn.functional.linear(a, b) for _ in range(20)], 7) / 20e3
    return 2 * 2048 * 576 * 1536 / seconds
