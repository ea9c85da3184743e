"""How well S2A cleans a user's message: is the opinion gone, are question and facts still there?

The recorded answers were written by this project's authors in a stronger model's manner (see the data file): they show
the code's path and what its checks cost, not how good any model is. Each row gives S2A as it stands, and beside it the
paper's rule without checks, that is, the model's answer as it came; "unchanged" is the share of messages left as they
were.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import yaml

from benchmarks.table import Table
from ctxshaper import S2A, FakeGenerator, Generator, LocalGenerator
from ctxshaper.stages.s2a.answers import parse
from ctxshaper.text.terms import terms

_MESSAGES = Path(__file__).parent / "data" / "s2a_prompts.yaml"


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--recorded", action="store_true", help="recorded answers only, no model")
    parser.add_argument("--model", help="a local model; the embedded one by default")


def run(arguments: argparse.Namespace) -> list[Table]:
    """One table for the recorded answers, and one for a model's."""
    torch.set_num_threads(1)
    items = yaml.safe_load(_MESSAGES.read_text(encoding="utf-8"))
    recorded = rates(FakeGenerator([item["recorded"] for item in items]), items)
    tables = [Table("recorded answers, written by hand", recorded)]
    if not arguments.recorded:
        generator = LocalGenerator(arguments.model, max_new_tokens=160)
        tables.append(Table(f"{generator.source.name}, greedy", rates(generator, items)))
    return tables


def rates(generator: Generator, items: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Shares of messages by kind, and seconds a message."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    counts: dict[str, int] = defaultdict(int)
    for item in items:
        stage = S2A(variant="relevance" if item["kind"] == "irrelevant_sentence" else "not_instructed")
        started = time.perf_counter()
        answer = generator.generate(stage.query_prompt(item["message"], generator))
        seconds = time.perf_counter() - started
        shaped, raw = stage.read_query(item["message"], answer), parse(answer)
        for kind in (item["kind"], "together"):
            row = sums[kind]
            counts[kind] += 1
            for name, value in measures(item, shaped.text).items():
                row[name] += value
            for name, value in measures(item, f"{raw.context} {raw.question}").items():
                row[f"unchecked: {name}"] += value
            row["unchanged"] += shaped.text == item["message"]
            row["seconds"] += seconds
    return {
        kind: {"n": counts[kind], **{name: value / counts[kind] for name, value in row.items()}}
        for kind, row in sums.items()
    }


def measures(item: dict[str, Any], text: str) -> dict[str, bool]:
    """What became of one message."""
    unwanted = item["unwanted"][0]
    whole = item["kind"] == "irrelevant_sentence"
    found = held(text, unwanted) if whole else re.search(rf"\b{re.escape(unwanted)}\b", text) is not None
    question, facts = held(text, item["question"]), all(held(text, fact) for fact in item["needed"])
    return {"gone": not found, "question": question, "facts": facts, "all": not found and question and facts}


def held(text: str, wanted: str) -> bool:
    """Whether a text still says something: nine tenths of its words, and all of its numbers."""
    there, asked = set(terms(text)), set(terms(wanted))
    numbers = {term for term in asked if term.isdigit()}
    return numbers <= there and len(asked & there) >= 0.9 * len(asked)
