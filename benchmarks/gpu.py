"""A Reader on one NVIDIA GPU, Python and all: prefill and warm queries in the shape of Llama-3.1-8B.

The weights are random, of 14 layers, made with transformers' own config in a temporary folder; passages have 256
tokens, and every query is a new one. First a small model of the same kind is read on the CPU and on the GPU: where the
scores differ nothing is timed. With `--questions`, the embedded SmolLM2 in bfloat16 on the GPU is compared with its
float32 reading on the CPU too. Everything goes through the public API; needed are torch,
triton and transformers.

The floor of a prefill is its matrix products at the rate of a large one; that of a warm query is the weights, and what
is remembered of the passages, moved once at the rate of a large copy. GemFilter's way is stock transformers: the whole
prompt through the same layers, causally, as far as the model's positions reach.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.device import Ceilings, busy, ceilings, events, needed
from benchmarks.table import Table
from benchmarks.timing import of_each
from ctxshaper.reading.profile import Head, HeadProfile
from ctxshaper.reading.reader import Reader

SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 14,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "rope_theta": 5e5,
    "max_position_embeddings": 131_072,
    "tie_word_embeddings": True,
}
SMALL = SHAPE | {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4,
                 "num_key_value_heads": 2, "initializer_range": 0.1}  # fmt: skip
# Eight heads in four layers, two KV groups of each: what a head profile looks like.
HEADS = ((3, 5), (3, 22), (7, 1), (7, 30), (9, 12), (9, 17), (13, 0), (13, 9))
PASSAGE, ROWS, _AT_ONCE = 256, 32, 16
# Correlation of log scores that rounding to bfloat16 leaves at least; what another computation leaves is near 0.
_ALIKE = 0.95
_WORDS = 30_000


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--tokens", nargs="+", type=int, default=[8_192, 32_768, 131_072])
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile")
    parser.add_argument("--questions", type=Path, help="labelled questions, for the comparison of SmolLM2's readings")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Agreement first; then times, floors and memory by number of tokens."""
    needed()
    tables = [agreement()]
    if arguments.questions:
        tables.append(of_smollm2(arguments.questions))
    known = ceilings()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108
        write_model(Path(folder), SHAPE, "cuda", torch.bfloat16)
        for tokens in arguments.tokens:
            if tokens <= SHAPE["max_position_embeddings"]:
                rows[f"{tokens:,} tokens"] = {"GemFilter's way, causal, ms": causal(folder, tokens)}
                gc.collect()
                torch.cuda.empty_cache()
        for compiled in (False, True) if arguments.compiled else (False,):
            measured = speed(folder, arguments.tokens, known, compiled)
            for name, figures in measured.items():
                rows[name] = {**rows.get(name, {}), **figures}
    return [*tables, Table("8B shape, 14 layers, through Reader.read", rows, [str(known)])]


def agreement() -> Table:
    """A small random model, in float32 on the CPU and in bfloat16 on the GPU; ends the process where they differ.

    In float32 the GPU would run the references and not the kernels.
    """
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), SMALL, "cpu", torch.float32)
        profile = HeadProfile("small", (Head(1, 0), Head(2, 3)), filter_layer=2)
        made = [words(draw, int(draw.uniform(5, 300))) for _ in range(40)]
        query = words(draw, 20)
        found = []
        for device, dtype in (("cpu", "float32"), ("cuda", "bfloat16")):
            reader = Reader(folder, profile=profile, device=device, dtype=dtype, cache_bytes=2**28)
            found.append(np.concatenate([p.scores for p in reader.read(query, made).passages]))
    cpu, gpu = found
    alike = float(np.corrcoef(np.log(cpu), np.log(gpu))[0, 1])
    if not alike > _ALIKE:
        sys.exit(f"the GPU's log scores correlate with the CPU's by {alike:.3f} only; nothing is timed")
    return Table(
        "small random model, bf16 on the GPU against float32 on the CPU",
        {"40 passages": {"correlation of log scores": alike}},
    )


def of_smollm2(path: Path, limit: int = 30) -> Table:
    """SmolLM2's reading in bfloat16 on the GPU beside float32 on the CPU; ends the process where they rank apart."""
    from ctxshaper.evaluation.loaders import load_questions
    from ctxshaper.text.segments import sentences

    cpu, gpu = Reader(device="cpu", dtype="float32"), Reader(device="cuda")
    overlaps, correlations = [], []
    for question in load_questions(path)[:limit]:
        units = [sentences(passage.source) for passage in question.passages]
        one, other = (
            np.concatenate(
                [
                    read.span_scores(own)
                    for read, own in zip(reader.read(question.text, question.passages).passages, units, strict=True)
                ]
            )
            for reader in (cpu, gpu)
        )
        third = max(1, len(one) // 3)
        overlaps.append(len(set(np.argsort(-one)[:third]) & set(np.argsort(-other)[:third])) / third)
        correlations.append(float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1]))
    if np.mean(overlaps) < 0.9:
        sys.exit(f"the GPU's reading does not rank as the CPU's does (overlap {np.mean(overlaps):.2f})")
    figures = {"overlap of the best third": float(np.mean(overlaps)), "rank correlation": float(np.mean(correlations))}
    return Table("SmolLM2, sentences, bf16 on the GPU against float32 on the CPU", {path.stem: figures})


def speed(folder: str, sizes: list[int], known: Ceilings, compiled: bool) -> dict[str, dict[str, float]]:
    """What the public API takes, by number of tokens."""
    draw = random.Random(7)
    profile = HeadProfile("8B shape", tuple(Head(*head) for head in HEADS), filter_layer=13)
    reader = Reader(
        folder, profile=profile, device="cuda", cache_bytes=12 * 2**30, max_tokens=2 * max(sizes), compiled=compiled
    )
    reader.read(words(draw, ROWS), [words(draw, PASSAGE) for _ in range(32)])
    rows = {}
    for tokens in sizes:
        number = tokens // PASSAGE
        sets = [[words(draw, PASSAGE) for _ in range(number)] for _ in range(4)]
        reader.read(words(draw, ROWS), sets[0])  # compiles, and times candidates
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        prefill = of_each(
            (partial(reader.read, words(draw, ROWS), texts) for texts in sets[1:]), torch.cuda.synchronize
        )
        peak = (torch.cuda.max_memory_allocated() - base) / base
        misses = reader.read(words(draw, ROWS), sets[-1]).notes["cache_misses"]
        assert misses == 0, "what was just read is not remembered: raise cache_bytes"
        asked = (partial(reader.read, words(draw, ROWS), sets[-1]) for _ in range(15))
        warm = of_each(asked, torch.cuda.synchronize)
        floors = floors_of(tokens, known)
        batches = (
            partial(reader.read_batch, [(words(draw, ROWS), sets[-1]) for _ in range(_AT_ONCE)]) for _ in range(5)
        )
        rows[f"{tokens:,} tokens" + (", compiled" if compiled else "")] = {
            "prefill and a query, ms": prefill,
            "floor, ms": floors[0],
            "x floor": prefill / floors[0],
            "peak over weights and memory": peak,
            "a new query, ms": warm,
            "of it on the GPU, ms": busy(lambda: reader.read(words(draw, ROWS), sets[-1])),  # noqa: B023  # called now
            "floor of it, ms": floors[1],
            f"{_AT_ONCE} new queries at once, ms": of_each(batches, torch.cuda.synchronize),
        }
    return rows


def floors_of(tokens: int, known: Ceilings) -> tuple[float, float]:
    """Milliseconds that a prefill and a warm query must take.

    The last layer is only needed for its queries and keys. A query moves the weights of the others, and of the passages
    the keys of the profile's slots in 8 bits, with 2 bytes of scale a token: twice, for the softmax and for the mass.
    """
    hidden, mlp, layers = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_hidden_layers"]
    heads, key_heads = SHAPE["num_attention_heads"], SHAPE["num_key_value_heads"]
    size = hidden // heads
    layer = 2 * hidden * hidden + 2 * hidden * key_heads * size + 3 * hidden * mlp
    weights = (layers - 1) * layer
    attention = (layers - 1) * 2 * PASSAGE * hidden
    slots = {(layer, head // (heads // key_heads)) for layer, head in HEADS}
    keys = 2 * tokens * len(slots) * (size + 2)
    return tokens * (2 * weights + attention) / known.product, (2 * weights + keys) / known.copy


def causal(folder: str, tokens: int) -> float:
    """GemFilter's way: the whole prompt through the layers, causally, by stock transformers."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").to("cuda")
    ids = torch.randint(0, _WORDS, (1, tokens), device="cuda")
    with torch.inference_mode():
        return events(lambda: model(input_ids=ids, use_cache=False), 1, 1)


def write_model(folder: Path, shape: dict[str, Any], device: str, dtype: torch.dtype) -> None:
    """Write a Llama of this shape with random weights, and a tokenizer of one word a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["?", *(f"w{i}" for i in range(_WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))  # noqa: S106  # a token, no secret
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?").save_pretrained(folder)  # noqa: S106
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **shape), dtype=dtype)
    model.save_pretrained(folder, max_shard_size="8GB")
    del model
    gc.collect()
    torch.cuda.empty_cache()


def words(draw: random.Random, number: int) -> str:
    """A text of so many tokens."""
    return " ".join(f"w{draw.randrange(_WORDS)}" for _ in range(number))
