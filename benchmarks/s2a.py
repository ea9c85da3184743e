"""How well S2A cleans a user's message: is the opinion gone, are question and facts still there?

    python benchmarks/s2a.py                  # recorded answers through FakeGenerator, then the embedded model
    python benchmarks/s2a.py --recorded       # recorded answers only, no model
    python benchmarks/s2a.py --model FOLDER   # any local model

The recorded answers were written by this project's authors in a stronger model's manner (see the data file): they
show the code's path and what its checks cost, not how good any model is. Each table gives S2A as it stands beside the
paper's rule without checks, that is, the model's answer as it came; the last column is the share of messages left as
they were.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import yaml

from ctxshaper.generators import FakeGenerator, Generator, LocalGenerator
from ctxshaper.ranking.lexical import terms
from ctxshaper.stages import S2A
from ctxshaper.stages.s2a.answers import parse

DATA = Path(__file__).parent / "data" / "s2a_prompts.yaml"


def held(text: str, wanted: str) -> bool:
    """Whether a text still says something: nine tenths of its words, and all of its numbers."""
    there, asked = set(terms(text)), set(terms(wanted))
    numbers = {t for t in asked if t.isdigit()}
    return numbers <= there and len(asked & there) >= 0.9 * len(asked)


def measures(item: dict[str, Any], text: str) -> dict[str, bool]:
    """What became of one message."""
    unwanted = item["unwanted"][0]
    whole = item["kind"] == "irrelevant_sentence"
    found = held(text, unwanted) if whole else re.search(rf"\b{re.escape(unwanted)}\b", text) is not None
    question, facts = held(text, item["question"]), all(held(text, f) for f in item["needed"])
    return {"gone": not found, "question": question, "facts": facts, "all": not found and question and facts}


def run(generator: Generator, items: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Rates by kind of message."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for item in items:
        stage = S2A(variant="relevance" if item["kind"] == "irrelevant_sentence" else "not_instructed")
        started = time.perf_counter()
        answer = generator.generate(stage.query_prompt(item["message"], generator))
        seconds = time.perf_counter() - started
        shaped = stage.read_query(item["message"], answer)
        raw = parse(answer)
        for kind in (item["kind"], "together"):
            row = sums[kind]
            row["n"] += 1
            row["seconds"] += seconds
            row["unchanged"] += shaped.text == item["message"]
            for name, value in measures(item, shaped.text).items():
                row[name] += value
            for name, value in measures(item, f"{raw.context} {raw.question}").items():
                row[f"raw_{name}"] += value
    return {k: {m: v if m == "n" else round(v / row["n"], 3) for m, v in row.items()} for k, row in sums.items()}


def show(title: str, rates: dict[str, dict[str, float]]) -> None:
    """Print one table."""
    columns = ("gone", "question", "facts", "all")
    ours, raw = "S2A: gone  question  facts  all", "unchecked: the same"
    print(f"\n{title}\n{'':20} {'n':>3} | {ours:34} | {raw:34} | s    | unchanged")
    for kind, row in rates.items():
        ours = "  ".join(f"{row[c]:7.2f}" for c in columns)
        raw = "  ".join(f"{row['raw_' + c]:7.2f}" for c in columns)
        print(f"{kind:20} {row['n']:3.0f} | {ours} | {raw} | {row['seconds']:.2f} | {row['unchanged']:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recorded", action="store_true", help="recorded answers only")
    parser.add_argument("--model", help="a local model; the embedded one by default")
    parser.add_argument("--json", type=Path, help="where to write the rates")
    options = parser.parse_args()
    torch.set_num_threads(1)
    items = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    rates = {"recorded": run(FakeGenerator([item["recorded"] for item in items]), items)}
    show("recorded answers, written by hand", rates["recorded"])
    if not options.recorded:
        generator = LocalGenerator(options.model, max_new_tokens=160)
        rates[generator.source.name] = run(generator, items)
        show(f"{generator.source.name}, greedy", rates[generator.source.name])
    if options.json:
        options.json.write_text(json.dumps(rates, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
