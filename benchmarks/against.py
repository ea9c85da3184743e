"""The same benchmark on two revisions, in turn on the same machine: figures side by side, and their ratio."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import Table

_HERE = Path(__file__).resolve().parents[1]
_FOREIGN = (
    ". The baseline has no such benchmark of its own, and today's needs what its package lacks: compare by hand with "
    "the script that it has"
)


def compared(name: str, arguments: Sequence[str], revision: str, rounds: int) -> list[Table]:
    """Tables with the working tree's figures, the baseline's, and the first divided by the second.

    Each side runs in a process of its own, in turn. A baseline that has this benchmark runs its own file, which fits
    its API. One that has not runs today's file over its package, which works where today's file only uses what that
    package has.

    Args:
        name: of the benchmark.
        arguments: its options, as they were given on the command line.
        revision: anything that git takes for a commit.
        rounds: how often each side runs; the medians count.
    """
    options = _without(arguments, ("--baseline", "--rounds", "--json"))
    with tempfile.TemporaryDirectory(prefix="ctxshaper-baseline-") as made:
        tree = Path(made) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(tree), revision)
        try:
            own = (tree / "benchmarks" / "__main__.py").is_file() and (tree / "benchmarks" / f"{name}.py").is_file()
            if not own:
                shutil.rmtree(tree / "benchmarks", ignore_errors=True)
                shutil.copytree(_HERE / "benchmarks", tree / "benchmarks")
            runs: dict[Path, list[list[Table]]] = {_HERE: [], tree: []}
            for _ in range(rounds):
                for place, results in runs.items():
                    called = revision if place == tree else "the working tree"
                    results.append(_run(name, options, place, called, own or place == _HERE))
        finally:
            _git("worktree", "remove", "--force", str(tree))
    how = "its own benchmark" if own else "today's benchmark over its package"
    note = f"Baseline {revision} ({how}), in turn with the working tree, {rounds} rounds, medians."
    return [_beside(ours, theirs, note) for ours, theirs in zip(*map(_medians, runs.values()), strict=False)]


def _run(name: str, options: Sequence[str], place: Path, called: str, own: bool) -> list[Table]:
    with tempfile.TemporaryDirectory(prefix="ctxshaper-figures-") as folder:
        file = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "benchmarks", name, *options, "--json", str(file)]
        # The data lies beside the working tree, and not beside a worktree in a temporary folder.
        known = {"CTXSHAPER_BENCHMARK_DATA": str(_HERE.parent / "shared" / "data"), **os.environ}
        done = subprocess.run(
            command, cwd=place, env={**known, "PYTHONPATH": str(place)}, capture_output=True, text=True, check=False
        )
        if done.returncode or not file.is_file():
            last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
            sys.exit(f"benchmark {name!r} failed on {called}: {last}{'' if own else _FOREIGN}")
        return [Table.from_dict(table) for table in json.loads(file.read_text(encoding="utf-8"))]


def _medians(results: Sequence[Sequence[Table]]) -> list[Table]:
    """One table for each of a run's, of the medians over runs."""
    made = []
    for tables in zip(*results, strict=True):
        rows = {
            name: {c: statistics.median(t.rows[name][c] for t in tables if c in t.rows.get(name, {})) for c in figures}
            for name, figures in tables[0].rows.items()
        }
        made.append(Table(tables[0].title, rows, tables[0].notes))
    return made


def _beside(ours: Table, theirs: Table, note: str) -> Table:
    rows: dict[str, dict[str, float]] = {}
    for name, figures in ours.rows.items():
        rows[name] = {}
        for column, value in figures.items():
            rows[name][column] = value
            base = theirs.rows.get(name, {}).get(column)
            if base is not None:
                rows[name][f"{column}, baseline"] = base
                if base:
                    rows[name][f"{column}, ratio"] = value / base
    missing = [name for name in ours.rows if name not in theirs.rows]
    notes = (*ours.notes, note, *([f"The baseline does not have: {', '.join(missing)}."] if missing else []))
    return Table(ours.title, rows, notes)


def _without(arguments: Sequence[str], names: Sequence[str]) -> list[str]:
    """Arguments without these options and their values."""
    kept, skip = [], False
    for argument in arguments:
        if skip or argument.partition("=")[0] in names:
            skip = not skip and "=" not in argument
            continue
        kept.append(argument)
    return kept


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=_HERE, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        sys.exit(f"git {arguments[0]} {arguments[1]} failed: {done.stderr.strip()}")
