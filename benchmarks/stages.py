"""Every stage alone, and the recipes: what is kept, and how likely the right answer becomes.

    python benchmarks/stages.py --limit 20 --out stages.jsonl     # goes on where a run was cut off
    python benchmarks/stages.py --limit 50 --only 30% --no-likelihood --out equal.jsonl

The first N questions of HotpotQA 100 and nq20_hard, with the weights that ship. EvidenceFilter's were fitted on
HotpotQA, and evidence.py says what they keep of questions that they did not see; the guard of DistractionFilter was
chosen on all. Every method is given each question afresh, nothing remembered. Evidence is the share of supporting
sentences kept whole (HotpotQA; of a rewritten passage, in the spans that support it), or the share of questions whose
answer still stands in the text (nq20_hard). The likelihood is the embedded generator's mean log-probability per token
of the right answer behind the shaped context; beside it that of the same questions behind the whole context and behind
the gold passages alone, and a paired test against the whole context.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from labelled import DATA, Labelled, evidence, load

from ctxshaper import (
    S2A,
    AttentionRAG,
    AttnRank,
    Context,
    DistractionFilter,
    EvidenceFilter,
    FocalReader,
    GemFilter,
    LocalGenerator,
    Pipeline,
    Reader,
)
from ctxshaper.calibration.orders import scorer
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import prompt

WHOLE, GOLD = "whole context", "gold passages only"
# Methods that let the language model copy text take minutes a question on two cores.
SLOW = ("S2A", "recipe careful")


def methods(writer: LocalGenerator) -> dict[str, Callable[[], Pipeline]]:
    """What is compared; each pipeline is made when its turn comes."""
    # A hint is short: what a small model says behind it is not waited for.
    focal, hinter = FocalReader(), LocalGenerator(max_new_tokens=40)

    def alone(stage: Any, budget: str | None = None) -> Callable[[], Pipeline]:
        return lambda: Pipeline([stage], reader=Reader(), generator=writer, budget=budget)

    def recipe(name: str) -> Callable[[], Pipeline]:
        return lambda: Pipeline.from_recipe(name, reader=Reader(), generator=writer)

    paper: dict[str, Any] = {"reading": "chunks", "focal": focal, "generator": hinter}
    return {
        "EvidenceFilter 30%": alone(EvidenceFilter(), "30%"),
        "EvidenceFilter, all signals 30%": alone(EvidenceFilter(embedding=True, bm25=True), "30%"),
        "GemFilter by sentence 30%": alone(GemFilter(unit="sentence"), "30%"),
        "AttentionRAG 30%": alone(AttentionRAG(), "30%"),
        "AttentionRAG, hint by the LM 30%": alone(AttentionRAG(hint="generator", generator=hinter), "30%"),
        "AttentionRAG, paper's rule 30%": alone(AttentionRAG(hint="generator", **paper), "30%"),
        "AttentionRAG, paper's rule, hint by rule 30%": alone(AttentionRAG(**paper), "30%"),
        "AttentionRAG, paper's rule, k=12": alone(AttentionRAG(hint="generator", k=12, **paper)),
        "AttnRank, edges": alone(AttnRank(preset="edges")),
        "AttnRank, best last": alone(AttnRank(preset="best_last")),
        "DistractionFilter, forced": alone(DistractionFilter(when_ignored="use")),
        "S2A": alone(S2A()),
        "recipe qa": recipe("qa"),
        "recipe careful": recipe("careful"),
        "recipe attention_rag": recipe("attention_rag"),
    }


def only_gold(question: Labelled) -> Context:
    """The context with nothing but the passages that hold the evidence."""
    given = question.context
    return given.with_passages(p for p in given.passages if p.rank in question.passages)


def measure(
    question: Labelled, shape: Callable[[Context], Context], score: Callable[[str, Any], float] | None
) -> dict[str, Any]:
    """One method on one question."""
    given = question.context
    started = time.perf_counter()
    shaped = shape(given)
    seconds = time.perf_counter() - started
    result = {"tokens": shaped.tokens / given.tokens, "evidence": evidence(question, shaped), "seconds": seconds}
    gates = [s.notes["gate"] for s in shaped.trace.stages if "gate" in s.notes]
    if gates:
        result["gate"] = [gates[0]["fired"] / gates[0]["of"], float(gates[0]["ignored"])]
    if score is not None:
        result["likelihood"] = score(prompt(given.query, shaped.passages), question.answers)
    return result


def table(found: dict[tuple[str, str, int], dict[str, Any]]) -> None:
    """Means by data set and method; the two contexts beside them on the same questions."""
    columns = ("n", "tokens", "evidence", "log-lik.", "(whole)", "(gold)", "gain [95%], p", "s")
    for data in dict.fromkeys(key[0] for key in found):
        print(f"\n{data:46s}" + "".join(c.rjust(26 if c[:4] == "gain" else 10) for c in columns))
        for name in dict.fromkeys(key[1] for key in found if key[0] == data):
            rows = {key[2]: row for key, row in found.items() if key[:2] == (data, name)}
            cells = [str(len(rows)), *(f"{np.mean([r[c] for r in rows.values()]):.3f}" for c in ("tokens", "evidence"))]
            scored = [i for i, r in rows.items() if "likelihood" in r]
            if scored:
                own, whole, gold = ([found[data, m, i]["likelihood"] for i in scored] for m in (name, WHOLE, GOLD))
                gain = paired_gain(own, whole) if name != WHOLE and len(scored) > 1 else None
                cells += [f"{np.mean(x):.3f}" for x in (own, whole, gold)]
                cells.append(f"{gain.gain:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] {gain.p:.2f}" if gain else "")
            else:
                cells += [""] * 4
            cells.append(f"{np.mean([r['seconds'] for r in rows.values()]):.2f}")
            print(f"{name:46s}" + "".join(c.rjust(26 if i == 6 else 10) for i, c in enumerate(cells)))
            gates = [r["gate"] for r in rows.values() if "gate" in r]
            if gates:
                fired, ignored = np.mean(gates, axis=0)
                print(
                    f"{'':46s} the gate fired for {fired:.0%} of the chunks; for {ignored:.0%} of the questions for all"
                )


def main() -> None:
    """Measure what is not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--limit", type=int, default=10, help="questions of each data set")
    parser.add_argument("--slow-limit", type=int, default=3, help=f"the same for {', '.join(SLOW)}")
    parser.add_argument("--set", default="", help="one data set: HotpotQA or nq20_hard; both if left out")
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--no-likelihood", action="store_true", help="leave the generator out")
    parser.add_argument("--out", type=Path, default=Path("stages.jsonl"), help="results so far, one a line")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.is_file() else []
    found = {(r["data"], r["method"], r["question"]): r for r in map(json.loads, lines)}
    writer, counter = LocalGenerator(max_new_tokens=256), Reader()
    score = None if arguments.no_likelihood else scorer(writer, "log-likelihood")
    chosen = {name: make for name, make in methods(writer).items() if arguments.only in name}
    for data, questions in load(arguments.data, counter.count_tokens).items():
        if arguments.set not in ("", data):
            continue
        for name in (WHOLE, GOLD, *chosen):
            count = arguments.slow_limit if name in SLOW else arguments.limit
            pipeline: Pipeline | None = None
            for number, question in enumerate(questions[:count]):
                if (data, name, number) in found:
                    continue
                if name == WHOLE:
                    row = measure(question, lambda context: context, score)
                elif name == GOLD:
                    row = measure(question, lambda _, q=question: only_gold(q), score)
                else:
                    if pipeline is None:
                        pipeline = chosen[name]()
                        pipeline.shape("Which?", ["Loads the models.", "Nothing of this is measured."] * 3, "50%")
                    if pipeline.reader:
                        pipeline.reader.cache.clear()
                    row = measure(question, lambda c, p=pipeline: p.shape(c.query, c.passages), score)
                row = {"data": data, "method": name, "question": number, **row}
                found[data, name, number] = row
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
    table(found)


if __name__ == "__main__":
    main()
