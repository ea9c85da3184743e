"""What reading costs on this machine: independent reading, the warm query, and a causal pass, in one run.

    python benchmarks/reading.py

The text is Wikipedia-like prose of the project's own making, cut into passages of 150 tokens. Every figure is the
median of several; each cold read starts from an empty cache. The floor of a cold read is its matrix products at the
rate that a large product of the same type reaches here.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import torch

from ctxshaper import Reader
from ctxshaper.models.loading import load_lm

QUERY = "Which engineer designed the northern bridge, and in which year was it opened to traffic?"
VOCABULARY = (
    "the a northern bridge river engineer designed opened year city of in was built by council station "
    "tower harbour stone iron railway traffic museum later during which had been first second old new "
    "plan cost workers company opened again winter storm repair committee 1894 1902 1911 1923 "
)
WORDS = VOCABULARY.split()


def passages(number: int, words: int = 110) -> list[str]:
    """Passages of about 150 tokens."""
    made = random.Random(7)
    return [" ".join(made.choice(WORDS) for _ in range(words)) + "." for _ in range(number)]


def median(work: Callable[[], object], times: int, before: Callable[[], object] = lambda: None) -> float:
    """Median seconds."""
    taken = []
    for _ in range(times):
        before()
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product."""
    a, b = torch.randn(2048, 576).to(dtype), torch.randn(1536, 576).to(dtype)
    seconds = median(lambda: [torch.nn.functional.linear(a, b) for _ in range(20)], 7) / 20
    return 2 * 2048 * 576 * 1536 / seconds


def main() -> None:
    """Print the table."""
    reader = Reader()
    reader.read(QUERY, passages(2))
    config, layers = reader.decoder.config, reader.decoder.layers
    head = config.hidden_size // config.num_attention_heads
    per_layer = config.hidden_size * (
        2 * config.hidden_size + 2 * head * config.num_key_value_heads + 3 * config.intermediate_size
    )
    rate = matmul_rate(reader.dtype)
    print(f"{torch.get_num_threads()} threads, {reader.dtype}, large products run at {rate / 1e9:.0f} GFLOP/s")

    forget = reader.cache.clear

    print(f"{'passages':>9}{'tokens':>8}{'first look':>12}{'floor':>9}{'x floor':>9}{'second':>10}{'first/second':>14}")
    for number in (5, 20, 80):
        texts = passages(number)
        tokens = sum(map(reader.count_tokens, texts))
        first = median(lambda texts=texts: reader.read(QUERY, texts), 3, forget)
        second = median(lambda texts=texts: reader.read(QUERY + " Why?", texts), 9)
        floor = 2 * tokens * per_layer * (layers - 1) / rate
        print(
            f"{number:9d}{tokens:8d}{first * 1e3:9.0f} ms{floor * 1e3:6.0f} ms{first / floor:9.2f}"
            f"{second * 1e3:7.1f} ms{first / second:14.1f}"
        )

    texts = passages(10)
    prompt = reader.profile.prefix + "\n\n".join(texts) + reader.profile.before_query + QUERY
    ids = torch.tensor([reader.encoder.markup(prompt)])
    full = load_lm(reader.source, dtype=torch.float32, head=True)  # transformers' defaults: fp32, sdpa, all layers
    with torch.inference_mode():
        full(ids[:, :64])
        causal = median(lambda: full(ids), 3)
    first = median(lambda: reader.read(QUERY, texts), 3, forget)
    print(f"causal pass of {ids.shape[1]} tokens through the full model, transformers' defaults: {causal * 1e3:.0f} ms")
    print(f"independent reading of the same text and a query: {first * 1e3:.0f} ms, {causal / first:.1f} times as fast")


if __name__ == "__main__":
    main()
