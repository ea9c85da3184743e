"""Evidence kept beside other tools at equal tokens, with intervals and paired tests, milliseconds and bytes a token.

HotpotQA 100: share of supporting sentences kept whole. nq20_hard and MuSiQue 40: share of questions whose answer still
stands in the rendered text; of MuSiQue also the share of the supporting passages of which something is kept. Every
method chooses under the same budget over the rendered text, counted in the reader's tokens, and none may exceed it.

`--results` takes a line for each method, set, question and share; a run goes on where the file ends. Files of several
machines are put together one behind the other; `--report` prints the tables of what is there. Milliseconds stand under
the machine that they were taken on: cold, nothing is remembered of the passages; warm, another question was asked of
them before. The first question of each set is not timed: it loads what is loaded once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.questions import DATA, FILES, MUSIQUE, evidence_kept, load
from benchmarks.table import Table
from ctxshaper import Context, Embedder, Pipeline, Reader, Run
from ctxshaper.evaluation import metrics
from ctxshaper.evaluation.baselines import BASELINES, baseline, installed_baselines
from ctxshaper.evaluation.paired import interval, paired_gain
from ctxshaper.evaluation.questions import Question
from ctxshaper.stages.base import ScoringStage
from ctxshaper.stages.units import Unit

RECIPES = ("fast", "qa")
OURS = "qa"
SHARES = ("5%", "15%", "30%")
# Only where they are asked for: 10 to 60 seconds a question on a CPU, or what another name has already.
_EXTRA = ("llmlingua", "longllmlingua", "langchain-reorder")
Line = dict[str, Any]


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--sets", nargs="+", choices=tuple(FILES), default=tuple(FILES))
    parser.add_argument("--limit", type=int, help="only the first so many questions of each set")
    parser.add_argument("--only", nargs="+", choices=(*RECIPES, *BASELINES), help="these methods; else all installed")
    parser.add_argument("--timed", type=int, default=5, help="questions of each set that are timed")
    parser.add_argument("--results", type=Path, default=Path("peers.jsonl"), help="JSON lines, gone on with")
    parser.add_argument("--report", action="store_true", help="measure nothing: the tables of what the file holds")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Measure what the file lacks, and tell what it holds."""
    sets = {name: all_[: arguments.limit] for name, all_ in load(arguments.data, arguments.sets).items()}
    lines = list(_read(arguments.results))
    if not arguments.report:
        names = arguments.only or [*RECIPES, *(n for n in installed_baselines() if n not in _EXTRA)]
        machine = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        known = {(*key_of(line), line["machine"]) for line in lines}
        with arguments.results.open("a", encoding="utf-8") as out:
            for name in names:
                lines += measured(name, sets, arguments.timed, known, machine, out)
    asked = {(name, _id(question)) for name, questions in sets.items() for question in questions}
    return tables([line for line in lines if (line["set"], line["question"]) in asked])


def measured(
    name: str, sets: Mapping[str, Sequence[Question]], timed: int, known: set[Any], machine: str, out: Any
) -> list[Line]:
    """What is not known yet of one method; written at once."""
    method, lines = Method(name), []
    for set_, questions in sets.items():
        for place, question in enumerate(questions):
            keys = {share: (name, set_, _id(question), share) for share in SHARES}
            new = [share for share, key in keys.items() if (*key, machine) not in known]
            if not new:
                continue
            taken: Line = {}
            if place in range(1, timed + 1):
                taken = method.times(question, questions[place - 1].text)
            for share in new:
                shaped = method.shape(question, share)
                assert shaped.limit is not None
                assert shaped.tokens <= shaped.limit, f"{name} exceeds the budget: {shaped.tokens} > {shaped.limit}"
                line = {
                    **dict(zip(("method", "set", "question", "share"), keys[share], strict=True)),
                    "evidence": evidence_kept(question, shaped),
                    "touched": metrics.passage_recall(question, shaped),
                    "tokens": shaped.tokens,
                    "tokens_in": shaped.tokens_in,
                    "machine": machine,
                    **(taken if share == new[0] else {}),
                }
                out.write(json.dumps(line) + "\n")
                lines.append(line)
            out.flush()
        print(f"{name}, {set_}: {len(questions)} questions", file=sys.stderr, flush=True)
    return lines


class Method:
    """One method, over models of its own: what it remembers is nobody else's."""

    def __init__(self, name: str) -> None:
        self._reader, self._embedder = Reader(), Embedder()
        parts = {"reader": self._reader, "embedder": self._embedder}
        if name in RECIPES:
            self._asked = self._timed = Pipeline.from_recipe(name, **parts)
            return
        stage = baseline(name)
        self._timed = Pipeline([stage], **parts)
        self._asked = Pipeline([Once(of=stage)], **parts) if isinstance(stage, ScoringStage) else self._timed

    def shape(self, question: Question, share: str) -> Context:
        """The question's passages under a share of their tokens."""
        return self._asked.shape(question.text, question.passages, share)

    def times(self, question: Question, other: str) -> Line:
        """Milliseconds cold and warm, and the bytes a token that are kept from the one to the other."""
        self._reader.cache.clear()
        self._embedder.forget()
        taken: Line = {}
        for name, text in (("cold_ms", question.text), ("warm_ms", other)):
            started = time.perf_counter()
            shaped = self._timed.shape(text, question.passages, SHARES[1])
            taken[name] = 1e3 * (time.perf_counter() - started)
            if name == "cold_ms":
                vectors = sum(v.nbytes for text, v in self._embedder._known.items() if text != question.text)
                taken["bytes"] = (self._reader.cache.nbytes + vectors) / shaped.tokens_in
        return taken


@dataclass(frozen=True, kw_only=True)
class Once(ScoringStage):
    """Scores as another stage does, and a question's sentences only once for all budgets."""

    of: ScoringStage
    known: dict[Any, Sequence[float]] = field(default_factory=dict, repr=False)

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        key = (context.query, tuple(units))
        if key not in self.known:
            if all(query != context.query for query, _ in self.known):
                self.known.clear()
            self.known[key] = self.of.score(context, units, run)
        return self.known[key]


@dataclass(frozen=True)
class Bounded(Table):
    """Figures with an interval, and where they compare two methods with a p-value.

    Attributes:
        bounds: by row and column, low and high end, and p where there is one.
    """

    bounds: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"| {self.title} | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        for name, figures in self.rows.items():
            cells = [self._cell(name, column) if column in figures else "" for column in self.columns]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def _cell(self, row: str, column: str) -> str:
        low, high, *p = self.bounds[row][column]
        value = self.rows[row][column]
        if not p:
            return f"{value:.3f} [{low:.2f}, {high:.2f}]"
        return f"{value:+.3f} [{low:+.2f}, {high:+.2f}] {'p < .001' if p[0] < 0.001 else f'p = {p[0]:.3f}'[:9]}"


def tables(lines: Sequence[Line]) -> list[Table]:
    """What the lines say: of the same method, set, question and share the last counts, times all."""
    found: dict[str, dict[str, dict[str, Line]]] = {}
    order = [*RECIPES, *BASELINES]
    for line in sorted(lines, key=lambda one: (order.index(one["method"]), list(FILES).index(one["set"]))):
        column = f"{line['set']} {line['share']}"
        found.setdefault(line["method"], {}).setdefault(column, {})[line["question"]] = line
    # A file may hold the shares of a question in any order.
    columns = [f"{name} {share}" for name in FILES for share in SHARES]
    found = {name: {c: by_column[c] for c in columns if c in by_column} for name, by_column in found.items()}
    sizes = {c: max(len(by_column.get(c, ())) for by_column in found.values()) for c in columns}
    short = {name for name, by_column in found.items() if any(len(by) < sizes[c] for c, by in by_column.items())}
    notes = [f"Of some questions only: {', '.join(sorted(short))}."] if short else []
    tokens = {
        name: {c: float(np.mean([x["tokens"] / x["tokens_in"] for x in by.values()])) for c, by in by_column.items()}
        for name, by_column in found.items()
    }
    touched = {name: {c: by for c, by in by_column.items() if MUSIQUE in c} for name, by_column in found.items()}
    return [
        _means("evidence kept", found, "evidence", notes),
        *([_gains(found)] if OURS in found else []),
        _means("supporting passages touched", touched, "touched", notes),
        Table("share of the tokens taken", tokens),
        _costs(lines, order),
    ]


def _means(title: str, found: Mapping[str, Any], field_: str, notes: Sequence[str]) -> Table:
    rows: dict[str, dict[str, float]] = {}
    bounds: dict[str, dict[str, Sequence[float]]] = {}
    for name, by_column in found.items():
        values = {c: [line[field_] for line in by.values()] for c, by in by_column.items()}
        rows[name] = {c: float(np.mean(some)) for c, some in values.items()}
        bounds[name] = {c: interval(some) for c, some in values.items()}
    return Bounded(f"{title}, 95% interval", rows, notes, bounds)


def _gains(found: Mapping[str, Mapping[str, Mapping[str, Line]]]) -> Table:
    rows: dict[str, dict[str, float]] = {}
    bounds: dict[str, dict[str, Sequence[float]]] = {}
    for name, by_column in found.items():
        if name == OURS:
            continue
        rows[name], bounds[name] = {}, {}
        for column, theirs in by_column.items():
            ours = found[OURS].get(column, {})
            both = [question for question in theirs if question in ours]
            if len(both) > 1:
                pair = [[by[question]["evidence"] for question in both] for by in (ours, theirs)]
                gain = paired_gain(*pair)
                rows[name][column], bounds[name][column] = gain.gain, (gain.low, gain.high, gain.p)
    note = "Paired over questions; p by sign flips, two-sided, not corrected for the number of rows and columns."
    return Bounded(f"gain of {OURS} over", rows, [note], bounds)


def _costs(lines: Sequence[Line], order: Sequence[str]) -> Table:
    taken: dict[str, dict[str, list[float]]] = {}
    for line in sorted(lines, key=lambda one: (order.index(one["method"]), one["machine"])):
        if "cold_ms" in line:
            own = taken.setdefault(line["method"], {})
            for name in ("cold", "warm"):
                own.setdefault(f"{name} ms, {line['machine']}", []).append(line[f"{name}_ms"])
            own.setdefault("bytes a token", []).append(line["bytes"])
    rows = {name: {c: statistics.median(values) for c, values in own.items()} for name, own in taken.items()}
    return Table("cost of a question, medians", rows)


def key_of(line: Line) -> tuple[str, str, str, str]:
    """What a result is known by."""
    return line["method"], line["set"], line["question"], line["share"]


def _read(file: Path) -> Iterator[Line]:
    """The lines of a file; a last one that was cut off is taken out of it."""
    if file.is_file():
        whole, _, rest = file.read_text(encoding="utf-8").rpartition("\n")
        if rest:
            file.write_text(whole + "\n" if whole else "", encoding="utf-8")
        yield from map(json.loads, whole.splitlines())


def _id(question: Question) -> str:
    return question.id or question.text
