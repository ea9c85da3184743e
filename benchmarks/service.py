"""The service under load: requests a second and waiting times at 1, 8 and 32 clients, beside direct calls.

Server and clients share the machine. Each request shapes one question over 20 passages that the store holds, questions
in turn. "direct" is a loop of `Pipeline.shape` in a process of its own; "floor" is /healthz over the same connections.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.questions import DATA, HOTPOT, load
from benchmarks.table import Table
from ctxshaper import Passage, Pipeline

PASSAGES, BUDGET = 20, "30%"


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--recipes", nargs="+", default=["fast", "qa"])
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=300, help="for each recipe and number of clients")
    parser.add_argument("--last", type=int, default=0, help="so many requests behind all others, for the memory's sake")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Waiting times, throughput, refusals and memory."""
    bodies = _bodies(arguments.data)
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as store:
        for recipe in arguments.recipes:
            asked = [(body["query"], [Passage(text) for text in body["passages"]]) for body in bodies]
            pipeline = Pipeline.from_recipe(recipe, store=store)
            pipeline.remember(passage for _, passages in asked for passage in passages)
            taken = []
            for number in range(arguments.requests + 20):
                started = time.perf_counter()
                pipeline.shape(*asked[number % len(asked)], BUDGET)
                taken.append(time.perf_counter() - started)
            rows[f"{recipe}, direct"] = _figures(taken[20:], sum(taken[20:]))
        with _served(store) as (port, process):
            before = _memory(process)
            rows["floor, 1 client"] = _load(port, "GET", "/healthz", [b""], 1, arguments.requests)
            for recipe in arguments.recipes:
                sent = [json.dumps(body | {"model": recipe, "budget": BUDGET}).encode() for body in bodies]
                _load(port, "POST", "/v1/shape", sent, 4, 2 * len(sent))
                for clients in arguments.clients:
                    name = f"{recipe}, {clients} client{'s' * (clients > 1)}"
                    rows[name] = _load(port, "POST", "/v1/shape", sent, clients, arguments.requests)
            memory = {"before": before, "after": _memory(process)}
            if arguments.last:
                rows[f"{recipe}, 8 clients, {arguments.last}"] = _load(
                    port, "POST", "/v1/shape", sent, 8, arguments.last
                )
                memory["at the end"] = _memory(process)
            crowd = _load(port, "POST", "/v1/shape", sent, 200, 1000)
    notes = [f"{os.cpu_count()} cores for server and clients. 429 counts answers beyond the queue's capacity."]
    return [
        Table("service (ms)", rows, notes),
        Table("200 clients at once", {"qa": crowd}),
        Table("resident memory of the server (MiB)", {"all": memory}),
    ]


def _bodies(data: Path) -> list[dict[str, object]]:
    questions = load(data, (HOTPOT,))[HOTPOT][:20]
    texts = [f"{p.title}: {p.source}" for question in questions for p in question.passages]
    return [
        {"query": question.text, "passages": [texts[(10 * n + m) % len(texts)] for m in range(PASSAGES)]}
        for n, question in enumerate(questions)
    ]


@contextmanager
def _served(store: str) -> Iterator[tuple[int, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ctxshaper", "serve", "--port", str(port), "--store", store]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 300
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    break
            except OSError:
                pass
            assert process.poll() is None, "the service did not start"
            assert time.monotonic() < until, "the service did not get ready"
            time.sleep(0.2)
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _load(port: int, method: str, path: str, bodies: Sequence[bytes], clients: int, requests: int) -> dict[str, float]:
    taken: list[float] = []
    refused: list[int] = []
    turns = iter(range(requests))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while True:
            with lock:
                number = next(turns, None)
            if number is None:
                return
            started = time.perf_counter()
            connection.request(method, path, bodies[number % len(bodies)], {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                taken.append(time.perf_counter() - started)
            else:
                refused.append(answer.status)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures = _figures(taken, time.perf_counter() - started)
    return figures | {"429": float(refused.count(429)), "other errors": float(len(refused) - refused.count(429))}


def _figures(taken: Sequence[float], seconds: float) -> dict[str, float]:
    parts = statistics.quantiles([1e3 * one for one in taken], n=100)
    return {"a second": len(taken) / seconds, "p50": parts[49], "p95": parts[94], "p99": parts[98]}


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
