"""Every stage alone, and the recipes: what is kept, and how likely the right answer becomes.

The first N questions of each set, with the weights that ship. EvidenceFilter's were fitted on HotpotQA, and `evidence`
says what they keep of questions that they did not see; the guard of DistractionFilter was chosen on HotpotQA and
nq20_hard. Every method is given each question afresh, nothing remembered. Evidence is the share of supporting sentences
kept whole (HotpotQA; of a rewritten passage, in the spans that support it), or the share of questions whose answer
still stands in the text. The likelihood is the embedded generator's mean log-probability per token of the right answer
behind the shaped context; beside it that of the same questions behind the whole context and behind the gold passages
alone, and a paired test against the whole context.

A run that was cut off goes on from the file of results.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.questions import DATA, FILES, context_of, evidence_kept, load
from benchmarks.table import Table
from ctxshaper import (
    S2A,
    AttentionRAG,
    AttnRank,
    Context,
    DistractionFilter,
    EvidenceFilter,
    GemFilter,
    LocalGenerator,
    NoiseFilter,
    Pipeline,
    Reader,
    Stage,
    Structurize,
)
from ctxshaper.calibration.orders import scorer
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question

WHOLE, GOLD = "whole context", "gold passages only"
# Methods that let the language model copy text take minutes a question on two cores.
SLOW = ("S2A", "recipe careful", "Structurize", "EvidenceFilter 25%, Structurize")
Results = dict[tuple[str, str, int], dict[str, Any]]
Shape = Callable[[Question, Context], Context]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--sets", nargs="+", choices=tuple(FILES), default=tuple(FILES))
    parser.add_argument("--limit", type=int, default=10, help="questions of each set")
    parser.add_argument("--slow-limit", type=int, default=3, help=f"the same for {', '.join(SLOW)}")
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--no-likelihood", action="store_true", help="leave the generator out")
    parser.add_argument("--out", type=Path, default=Path("stages.jsonl"), help="results so far, one a line")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Measure what is not in the file yet; one table for each data set."""
    torch.set_num_threads(1)
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.is_file() else []
    found: Results = {(r["data"], r["method"], r["question"]): r for r in map(json.loads, lines)}
    writer = LocalGenerator(max_new_tokens=256)
    score = None if arguments.no_likelihood else scorer(writer, "log-likelihood")
    chosen = {name: make for name, make in methods(writer).items() if arguments.only in name}
    count = Reader().count_tokens
    for data, questions in load(arguments.data, arguments.sets).items():
        for name in (WHOLE, GOLD, *chosen):
            shape: Shape | None = None
            for number, question in enumerate(questions[: arguments.slow_limit if name in SLOW else arguments.limit]):
                if (data, name, number) in found:
                    continue
                shape = shape or shaping(name, chosen)
                row = {"data": data, "method": name, "question": number, **measure(question, shape, count, score)}
                found[data, name, number] = row
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    return [table(data, found) for data in arguments.sets]


def methods(writer: LocalGenerator) -> dict[str, Callable[[], Pipeline | list[Pipeline]]]:
    """What is compared: a pipeline, or several one after the other; they are made when their turn comes."""
    # A hint is short: what a small model says behind it is not waited for.
    hinter = LocalGenerator(max_new_tokens=40)

    def alone(stage: Stage, budget: str | None = None, generator: LocalGenerator = writer) -> Callable[[], Pipeline]:
        return lambda: Pipeline([stage], generator=generator, budget=budget)

    def headed(budget: str) -> Callable[[], list[Pipeline]]:
        # Headings cost tokens, so the filter in front of them keeps fewer.
        return lambda: [
            Pipeline([EvidenceFilter()], budget=budget),
            Pipeline([Structurize(least=2)], generator=outliner),
        ]

    def recipe(name: str) -> Callable[[], Pipeline]:
        return lambda: Pipeline.from_recipe(name, generator=writer)

    outliner = LocalGenerator(max_new_tokens=400)
    by_lm = AttentionRAG(hint="generator", reading="chunks")
    return {
        "EvidenceFilter 30%": alone(EvidenceFilter(), "30%"),
        "EvidenceFilter, all signals 30%": alone(EvidenceFilter(embedding=True, bm25=True), "30%"),
        "GemFilter by sentence 30%": alone(GemFilter(unit="sentence"), "30%"),
        "AttentionRAG 30%": alone(AttentionRAG(), "30%"),
        "AttentionRAG, paper's rule 30%": alone(by_lm, "30%", hinter),
        "AttentionRAG, paper's rule, hint by rule 30%": alone(AttentionRAG(reading="chunks"), "30%"),
        "AttentionRAG, paper's rule, k=12": alone(AttentionRAG(hint="generator", reading="chunks", k=12), None, hinter),
        "AttnRank, edges": alone(AttnRank(preset="edges")),
        "AttnRank, best last": alone(AttnRank(preset="best_last")),
        "NoiseFilter 30%": alone(NoiseFilter(), "30%"),
        "EvidenceFilter 25%, Structurize": headed("25%"),
        "Structurize": alone(Structurize(), generator=outliner),
        "DistractionFilter, forced": alone(DistractionFilter(when_ignored="use")),
        "S2A": alone(S2A()),
        "recipe qa": recipe("qa"),
        "recipe careful": recipe("careful"),
        "recipe attention_rag": recipe("attention_rag"),
    }


def shaping(name: str, chosen: dict[str, Callable[[], Pipeline | list[Pipeline]]]) -> Shape:
    """What a method does to a context that it has not seen."""
    if name == WHOLE:
        return lambda _, context: context
    if name == GOLD:
        return lambda question, context: context.with_passages(p for p in context.passages if p.rank in question.gold)
    made = chosen[name]()
    pipelines = [made] if isinstance(made, Pipeline) else made
    for pipeline in pipelines:
        pipeline.shape("Which?", ["Loads the models.", "Nothing of this is measured."] * 3, "50%")

    def shape(_: Question, context: Context) -> Context:
        for pipeline in pipelines:
            ranks = [passage.rank for passage in context.passages]
            shaped = pipeline.shape(context.query, context.passages)
            # A pipeline counts ranks anew; which passages are gold is said in the first ones.
            context = shaped.with_passages(passage.ranked(ranks[passage.rank]) for passage in shaped.passages)
        return context

    return shape


def measure(
    question: Question, shape: Shape, count: Callable[[str], int], score: Callable[[str, Any], float] | None
) -> dict[str, Any]:
    """One method on one question."""
    given = context_of(question, count)
    started = time.perf_counter()
    shaped = shape(question, given)
    seconds = time.perf_counter() - started
    result = {"tokens": shaped.tokens / given.tokens, "evidence": evidence_kept(question, shaped), "seconds": seconds}
    gates = [stage.notes["gate"] for stage in shaped.trace.stages if "gate" in stage.notes]
    if gates:
        result["gate"] = [gates[0]["fired"] / gates[0]["of"], float(gates[0]["ignored"])]
    if score is not None:
        result["likelihood"] = score(prompt(given.query, shaped.passages), question.answers)
    return result


def table(data: str, found: Results) -> Table:
    """Means by method; the two contexts beside them on the same questions."""
    rows: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(key[1] for key in found if key[0] == data):
        own = {key[2]: row for key, row in found.items() if key[:2] == (data, name)}
        figures: dict[str, Any] = {"n": len(own)}
        figures |= {c: float(np.mean([row[c] for row in own.values()])) for c in ("tokens", "evidence", "seconds")}
        scored = [number for number, row in own.items() if "likelihood" in row]
        if scored:
            likely, whole, gold = ([found[data, m, i]["likelihood"] for i in scored] for m in (name, WHOLE, GOLD))
            figures |= {"log-lik.": np.mean(likely), "(whole)": np.mean(whole), "(gold)": np.mean(gold)}
            if name != WHOLE and len(scored) > 1:
                gain = paired_gain(likely, whole)
                figures |= {"gain": gain.gain, "95% from": gain.low, "to": gain.high, "p": gain.p}
        gates = [row["gate"] for row in own.values() if "gate" in row]
        if gates:
            fired, ignored = np.mean(gates, axis=0)
            figures |= {"gate fired, chunks": fired, "for all of a question": ignored}
        rows[name] = {column: float(value) for column, value in figures.items()}
    return Table(data, rows)
