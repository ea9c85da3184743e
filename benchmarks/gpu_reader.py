"""The Reader on one NVIDIA GPU, Python and all: agreement with the CPU first, then what a first and a warm look cost.

    python benchmarks/gpu_reader.py --questions ../shared/data/hotpotqa_100.json

SmolLM2 in bf16 is compared with its fp32 reading on the CPU: sentences among the best third in both, and rank
correlation. Then a Llama-3.1-8B shape (14 layers, random weights, 512 passages of about 256 tokens) is read through the
public API; nothing is timed when the comparison fails. `benchmarks/gpu.py` times the same work without Python.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ctxshaper.data import Passage, Span
from ctxshaper.reading.profile import Head, HeadProfile
from ctxshaper.reading.reader import Reader

QUERY = "which engineer designed the northern bridge and in which year was it opened to traffic after the long winter"
HEADS = ((3, 5), (3, 22), (7, 1), (7, 30), (9, 12), (9, 17), (13, 0), (13, 9))


def agreement(path: Path, limit: int) -> float:
    """Print how SmolLM2's reading on the GPU in bf16 compares with that on the CPU in fp32; the mean overlap."""
    cpu, gpu = Reader(device="cpu", dtype="float32"), Reader(device="cuda")
    overlaps, correlations, replayed = [], [], 0.0
    for entry in json.loads(path.read_text(encoding="utf-8"))[:limit]:
        passages = [Passage("".join(sentences), metadata={"title": title}) for title, sentences in entry["context"]]
        spans = []
        for _, sentences in entry["context"]:
            ends = np.cumsum([len(s) for s in sentences])
            spans.append([Span(int(e) - len(s), int(e)) for s, e in zip(sentences, ends, strict=True) if s])

        def scores(reader: Reader, query: str, p: list[Passage] = passages, s: list[list[Span]] = spans) -> np.ndarray:
            reading = reader.read(query, p)
            return np.concatenate([r.span_scores(u) for r, u in zip(reading.passages, s, strict=True)])

        one, other = scores(cpu, entry["question"]), scores(gpu, entry["question"])
        third = max(1, len(one) // 3)
        overlaps.append(len(set(np.argsort(-one)[:third]) & set(np.argsort(-other)[:third])) / third)
        ranks = [np.argsort(np.argsort(x)) for x in (one, other)]
        correlations.append(np.corrcoef(*ranks)[0, 1])
        again = [scores(gpu, entry["question"]) for _ in range(3)][-1]  # by now replayed as a graph
        replayed = max(replayed, float(np.abs(again - other).max() / other.max()))
    print(
        f"SmolLM2, {len(overlaps)} questions of {path.stem}: best third of the sentences, bf16 on the GPU and fp32 on "
        f"the CPU: overlap {np.mean(overlaps):.3f} (least {min(overlaps):.2f}), rank correlation "
        f"{np.mean(correlations):.4f}; replayed graphs differ by {replayed:.1e}"
    )
    return float(np.mean(overlaps)) if replayed < 0.05 else 0.0


def large_model(folder: Path) -> HeadProfile:
    """Write a Llama-3.1-8B shape of 14 layers with random weights, and a tokenizer of one word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(["?", *(f"w{i}" for i in range(30_000))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))  # noqa: S106  # a token
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)  # noqa: S106  # a token
    config = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=14, num_attention_heads=32, num_key_value_heads=8,
        vocab_size=32_000, rope_theta=5e5, max_position_embeddings=131_072,
    )  # fmt: skip
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="8GB")
    return HeadProfile("8B shape", tuple(Head(*head) for head in HEADS), filter_layer=13)


def milliseconds(work: Callable[[], object], times: int, before: Callable[[], object] = lambda: None) -> float:
    """Median milliseconds on the host's clock, the result being on the host."""
    taken = []
    for _ in range(times):
        before()
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken)


def speed(compiled: bool) -> None:
    """Print what the public API takes."""
    made = random.Random(7)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        reader = Reader(
            folder, profile=large_model(Path(folder)), device="cuda", cache_bytes=12 * 2**30, compiled=compiled
        )
        torch.cuda.empty_cache()
        query = " ".join(f"w{made.randrange(30_000)}" for _ in range(27))
        reader.read(query, ["w1 w2 w3"])
    for number in (32, 128, 512):
        passages = [" ".join(f"w{made.randrange(30_000)}" for _ in range(256)) for _ in range(number)]
        reader.read(query, passages)
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        first = milliseconds(lambda p=passages: reader.read(query, p), 3, reader.cache.clear)
        peak = (torch.cuda.max_memory_allocated() - base) / base
        warm = milliseconds(lambda p=passages: reader.read(query, p), 15)
        ids, rows = reader.layout.query(query)
        with reader._held([reader.layout.passage(Passage(p)) for p in passages]) as (handles, _):
            held = reader.cache.request(handles)
            asked = milliseconds(lambda i=ids, r=rows, h=held: reader._warm.ask(i, r, h), 15)
        print(
            f"{number * 256:8,} tokens{' compiled' if compiled else ''}: first look {first:.0f} ms, warm query "
            f"{warm:.1f} ms, of it on the GPU {asked:.2f} ms; peak memory over weights and pool {peak:.1%}",
            flush=True,
        )


def main() -> None:
    """Compare, then time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=30)
    options = parser.parse_args()
    if agreement(options.questions, options.limit) < 0.9:
        sys.exit("the GPU's reading does not rank as the CPU's does; nothing is timed")
    for compiled in (False, True):
        speed(compiled)


if __name__ == "__main__":
    main()
