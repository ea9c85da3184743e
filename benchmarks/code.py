"""The code's own figures: sizes of files, what is documented and typed, lines of test per line of code.

Each number hides something: a short file may hold a riddle, a docstring may say nothing, an annotation may be Any, and
a line of test may check what cannot fail. They show a trend, not quality.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.table import Table

_HERE = Path(__file__).resolve().parents[1]
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--root", type=Path, nargs="+", default=[_HERE], help="checkouts of the project, side by side")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Figures of ctxshaper/ and tests/ of each checkout."""
    names = [str(root) if len(arguments.root) > 1 else "this tree" for root in arguments.root]
    return [Table("code", {name: figures(root) for name, root in zip(names, arguments.root, strict=True)})]


def figures(root: Path) -> dict[str, float]:
    """The figures of one checkout."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted((root / "ctxshaper").rglob("*.py"))}
    lengths = [len(text.splitlines()) for text in files.values()]
    functions = [found for text in files.values() for found in _functions(ast.parse(text), public=True)]
    public = [function for function, is_public in functions if is_public]
    everything = [function for function, _ in functions]
    tests = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (root / "tests").rglob("*.py"))
    return {
        "files": len(files),
        "lines": sum(lengths),
        "median file": statistics.median(lengths),
        "longest file": max(lengths),
        "functions": len(everything),
        "documented, all": _share(everything, _documented),
        "documented, public": _share(public, _documented),
        "typed, all": _share(everything, _typed),
        "typed, public": _share(public, _typed),
        "lines of test per line": tests / sum(lengths),
    }


def _functions(node: ast.AST, *, public: bool) -> Iterator[tuple[_Function, bool]]:
    """Every function and method below a node, and whether its own name and all around it are public.

    Functions inside of functions are nobody's interface. `__init__` and its kind are documented by their class.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Function):
            yield child, public and not child.name.startswith("_")
            yield from _functions(child, public=False)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, public=public and not child.name.startswith("_"))
        else:
            yield from _functions(child, public=public)


def _documented(function: _Function) -> bool:
    return ast.get_docstring(function) is not None


def _typed(function: _Function) -> bool:
    """Whether the result and every argument but the first of a method have a type."""
    given = function.args
    named = [*given.posonlyargs, *given.args]
    own = named[1:] if named and named[0].arg in ("self", "cls") else named
    stars = [star for star in (given.vararg, given.kwarg) if star is not None]
    return function.returns is not None and all(a.annotation is not None for a in (*own, *given.kwonlyargs, *stars))


def _share(functions: list[_Function], holds: Callable[[_Function], bool]) -> float:
    return sum(map(holds, functions)) / max(1, len(functions))
