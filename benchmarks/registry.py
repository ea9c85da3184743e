"""The benchmarks by name: each is a module here with `run(arguments)`, and `options(parser)` where it takes any."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from benchmarks.table import Table

NAMES = (
    "abstention",
    "chats",
    "code",
    "connectors",
    "distraction",
    "evidence",
    "gpu",
    "kernels",
    "needles",
    "peer_weights",
    "peers",
    "places",
    "positions",
    "ray_index",
    "ray_killed",
    "reading",
    "s2a",
    "screening",
    "service",
    "stages",
    "steering",
    "structured",
    "trace",
    "warm",
)


class Benchmark(Protocol):
    """What a benchmark's file holds."""

    def run(self, arguments: argparse.Namespace) -> Sequence[Table]:
        """Measure what the options ask for."""
        ...


def described() -> dict[str, str]:
    """What each benchmark measures: the first line of its file, which is not imported for that."""
    here = Path(__file__).parent
    files = {name: next(p for p in (here / f"{name}.py", here / name / "__init__.py") if p.is_file()) for name in NAMES}
    texts = {name: ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) for name, file in files.items()}
    return {name: (text or "").partition("\n")[0] for name, text in texts.items()}


def load(name: str) -> Any:
    """The module of a benchmark; only now is what it needs imported."""
    return import_module(f"benchmarks.{name}")
