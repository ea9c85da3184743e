"""What tracing costs a request, and where a request's time goes: one `qa` request cold, from the store, and warm.

The costs are measured on a warm `fast` request over 20 remembered passages, in turn without a tracer provider and with
OpenTelemetry's SDK and an exporter in memory, each a new question; time is the process's own, on one thread. The traces
are one question of HotpotQA with its ten passages, models loaded before; --svg draws them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from benchmarks.questions import DATA, HOTPOT, load
from benchmarks.table import Table
from benchmarks.warm import passages, questions
from benchmarks.waterfall import Bar, Panel, draw
from ctxshaper import Pipeline, Reader, tracing

_SPANS, _ROUNDS = 4000, 5
# What a row of the picture says of its span.
_SAID = {
    "passages": "passages",
    "tokens_read": "tokens read",
    "tokens_out": "tokens out",
    "from_store": "from the store",
    "cache_hits": "in memory",
    "hits": "hits",
    "misses": "misses",
    "held": "kept",
    "embedded": "embedded",
    "known": "known",
}


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--runs", type=int, default=200, help="requests of each kind")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the labelled questions")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the traces there")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Costs of tracing, and the milliseconds of each span of three requests."""
    torch.set_num_threads(1)
    with patch.dict(sys.modules, {"opentelemetry.trace": None}):
        nanoseconds = {"no OpenTelemetry": {"ns": _span_cost()}}
    nanoseconds["no tracer provider"] = {"ns": _span_cost()}
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    nanoseconds["SDK, exporter in memory"] = {"ns": _span_cost()}
    exporter.clear()
    costs = _request_costs(exporter, arguments.runs)
    # Of each request the quickest of three: other work on the machine makes it longer, and nothing makes it shorter.
    rounds = [_requests(exporter, arguments.data) for _ in range(3)]
    panels = [min(same, key=lambda panel: panel.bars[0].end) for same in zip(*rounds, strict=True)]
    if arguments.svg is not None:
        arguments.svg.write_text(draw(panels, "Where the time of a qa request goes, span by span"), encoding="utf-8")
    note = f"One thread, process time, medians of {arguments.runs}."
    return [
        Table("tracing, one span with two attributes", nanoseconds),
        Table("tracing, a warm fast request over 20 passages", costs, [note]),
        *(Table(f"spans, {panel.title}", _rows(panel)) for panel in panels),
    ]


def _span_cost() -> float:
    """Nanoseconds of one span, in the best of a few rounds."""
    taken = []
    for _ in range(_ROUNDS):
        started = time.process_time_ns()
        for _ in range(_SPANS):
            with tracing.span("ctxshaper.read", passages=20) as span:
                span.set(cache_hits=20)
        taken.append((time.process_time_ns() - started) / _SPANS)
    return min(taken)


def _request_costs(exporter: InMemorySpanExporter, runs: int) -> dict[str, dict[str, float]]:
    reader, asked = Reader(), questions()
    some = passages(20)
    reader.remember(some)
    pipeline = Pipeline.from_recipe("fast", reader=reader, budget=500)

    def one() -> float:
        started = time.process_time()
        pipeline.shape(next(asked), some)
        return 1e3 * (time.process_time() - started)

    for _ in range(10):
        one()
    exporter.clear()
    without, within = list[float](), list[float]()
    for number in range(runs):
        # In turn the first of the pair, which may have to warm a cache for the other.
        for traced in (number % 2 == 0, number % 2 == 1):
            if traced:
                within.append(one())
            else:
                with patch.object(tracing.spans, "_tracer", lambda: None):
                    without.append(one())
    # Neighbours in time: a machine that others use slows both alike.
    apart = [b - a for a, b in zip(without, within, strict=True)]
    spans = len(exporter.get_finished_spans()) / runs
    return {
        "no tracer provider": {"ms": statistics.median(without)},
        "SDK, exporter in memory": {
            "ms": statistics.median(within),
            "ms more, in pairs": statistics.median(apart),
            "spans": spans,
        },
    }


def _requests(exporter: InMemorySpanExporter, data: Path) -> list[Panel]:
    question = load(data, [HOTPOT])[HOTPOT][0]
    with tempfile.TemporaryDirectory() as folder:
        first, second = (Pipeline.from_recipe("qa", store=folder, budget="30%") for _ in range(2))
        for pipeline in (first, second):  # so that the models are loaded
            pipeline.shape("Is it loaded?", ["This is about something else. It is read before."], 5)
        say = f"{len(question.passages)} passages of HotpotQA"
        return [
            _traced(exporter, f"cold: {say}, not read before", lambda: first.shape(question.text, question.passages)),
            _traced(
                exporter,
                "as after a restart: the same request to a new reader, passages from the store",
                lambda: second.shape(question.text, question.passages),
            ),
            _traced(
                exporter,
                "warm: another question over them",
                lambda: second.shape(f"{question.text} Please answer.", question.passages),
            ),
        ]


def _traced(exporter: InMemorySpanExporter, title: str, request: Callable[[], object]) -> Panel:
    exporter.clear()
    request()
    spans = sorted(exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, -(span.end_time or 0)))
    depths: dict[int, int] = {}
    bars = []
    for span in spans:  # parents begin before their children
        depth = 0 if span.parent is None else depths[span.parent.span_id] + 1
        depths[span.context.span_id] = depth
        start, end = (((at or 0) - (spans[0].start_time or 0)) / 1e6 for at in (span.start_time, span.end_time))
        bars.append(Bar(span.name, depth, start, end, _note(span)))
    return Panel(title, bars)


def _note(span: ReadableSpan) -> str:
    found = {name.removeprefix("ctxshaper."): value for name, value in (span.attributes or {}).items()}
    said = [f"{found[name]:,} {words}" for name, words in _SAID.items() if found.get(name)]
    kind = found.get("store_kind")
    return ", ".join([*([str(kind)] if kind else []), *said[:3]])


def _rows(panel: Panel) -> dict[str, dict[str, float]]:
    """Milliseconds by span; of several of one name the sum."""
    rows: dict[str, dict[str, float]] = {}
    for bar in panel.bars:
        row = rows.setdefault(bar.name, {"spans": 0, "ms": 0})
        row["spans"], row["ms"] = row["spans"] + 1, row["ms"] + bar.end - bar.start
    return rows
