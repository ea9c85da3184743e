"""`ctxshaper doctor`: says what is installed and whether reading works."""

from __future__ import annotations

import os
import time
from importlib.metadata import PackageNotFoundError, version
from platform import platform, python_version

import typer
from rich.console import Console
from rich.table import Table

from ctxshaper.commands.tables import show
from ctxshaper.errors import CtxshaperError, MissingDependencyError
from ctxshaper.extras import install_line, missing

_PACKAGES = (
    "ctxshaper",
    "torch",
    "transformers",
    "tokenizers",
    "triton",
    "sentence-transformers",
    "bm25s",
    "faiss-cpu",
    "langchain-core",
    "llama-index-core",
)


def doctor() -> None:
    """Say what is installed, which device and model are found, and whether reading works.

    Loads the model and reads two sentences: some seconds, most of them for importing torch.
    """
    table = Table(show_header=False)
    table.add_row("python", f"{python_version()} on {platform()}")
    for name in _PACKAGES:
        try:
            table.add_row(name, version(name))
        except PackageNotFoundError:
            table.add_row(name, "not installed")
    console = Console()
    lacking = missing("reader")
    if lacking:
        table.add_row("self-test", "not run: reading needs packages that are not installed")
        show(console, "ctxshaper doctor", table)
        console.print(f"not installed: {', '.join(lacking)}; {install_line('reader')}", soft_wrap=True, markup=False)
        raise typer.Exit(1)
    problem = _self_test(table)
    show(console, "ctxshaper doctor", table)
    if problem:
        console.print(problem, soft_wrap=True, markup=False)
        raise typer.Exit(1)


def _self_test(table: Table) -> str:
    """Add rows on the model and on reading with it; what is wrong, or nothing."""
    started = time.perf_counter()
    try:
        import torch

        from ctxshaper import Reader
        from ctxshaper.models.threads import chosen_threads

        imported = time.perf_counter()
        threads, cores = chosen_threads(), os.cpu_count() or 1
        number = threads.number or torch.get_num_threads()
        table.add_row("threads", f"torch uses {number} on {cores} cores ({threads.reason})")
        reader = Reader()
        table.add_row("device", f"{reader.device}, {reader.dtype}")
        table.add_row("model", f"{reader.source.name} at {reader.source.location}")
        reading = reader.read("When was the bridge opened?", ["The bridge was opened in 1894. It rained that day."])
        first, second = (float(reading.passages[0].scores[part].sum()) for part in (slice(0, 8), slice(8, None)))
    except (CtxshaperError, ImportError) as error:
        table.add_row("self-test", "FAILED")
        # All of the extra is installed: advice to install it would be false, so the cause stands here instead.
        hidden = isinstance(error, MissingDependencyError) and error.__cause__ is not None
        return f"self-test failed: {error.__cause__ if hidden else error}"
    if first <= second:
        table.add_row("self-test", "FAILED")
        return "self-test failed: the sentence that answers the question does not score above the other"
    now = time.perf_counter()
    spent = f"import {imported - started:.1f} s, loading and reading {now - imported:.1f} s"
    table.add_row("self-test", f"passed in {now - started:.1f} s ({spent})")
    return ""
