"""The command line. Heavy imports wait until a command needs them: `--help` must answer at once."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ctxshaper.commands.calibrate import calibrate
from ctxshaper.commands.evaluate import evaluate
from ctxshaper.commands.mine_distractors import mine_distractors
from ctxshaper.commands.profile import profile
from ctxshaper.data import Context, Passage
from ctxshaper.errors import CtxshaperError, InvalidInputError

app = typer.Typer(
    name="ctxshaper",
    help="Shapes what a generator reads, between retrieval and generation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """The command with a user's mistake as one line on stderr, exit code 2; the unforeseen keeps its traceback."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except CtxshaperError as error:
            typer.echo(f"ctxshaper: {error}", err=True)
            raise typer.Exit(2 if isinstance(error, InvalidInputError) else 1) from error

    return run


app.command("eval")(explained(evaluate))
app.command()(explained(calibrate))
app.command()(explained(profile))
app.command("mine-distractors")(explained(mine_distractors))


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """Shapes what a generator reads, between retrieval and generation."""
    if version:
        from ctxshaper import __version__

        typer.echo(f"ctxshaper {__version__}")
        raise typer.Exit


@app.command()
@explained
def shape(
    query: Annotated[str, typer.Option("--query", "-q", help="The user's question.")],
    passages: Annotated[
        str,
        typer.Option("--passages", "-p", help="A .txt, .md or .jsonl file, a folder of them, or - for standard input."),
    ],
    recipe: Annotated[str, typer.Option(help="A shipped recipe (fast, qa, gemfilter) or a YAML file.")] = "qa",
    budget: Annotated[
        str | None, typer.Option(help="Tokens (500), a share (30%) or auto; the recipe's own if left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The reader's model: a folder or hub name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole shaped context as JSON.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Print what each stage did, on stderr.")] = False,
) -> None:
    """Shape passages for a question and print what the generator should read."""
    found = read_passages(passages)
    shaped = _with_progress(lambda: _shape(query, found, recipe, budget, model))
    typer.echo(shaped.to_json() if as_json else _printable(shaped.text))
    if trace:
        typer.echo(shaped.trace.to_json(indent=2), err=True)
    if not as_json and sys.stderr.isatty():
        typer.echo(f"{shaped.tokens} of {shaped.tokens_in} tokens", err=True)


def _shape(query: str, passages: list[Passage], recipe: str, budget: str | None, model: str | None) -> Context:
    from ctxshaper import Pipeline, Reader

    reader = Reader(model) if model else None
    return Pipeline.from_recipe(recipe, reader=reader).shape(query, passages, budget)


@app.command()
def doctor() -> None:
    """Say what is installed, which device and model are found, and whether reading works (one second)."""
    from importlib.metadata import PackageNotFoundError, version
    from platform import platform, python_version

    from rich.console import Console
    from rich.table import Table

    table = Table(title="ctxshaper doctor", show_header=False)
    table.add_row("python", f"{python_version()} on {platform()}")
    names = (
        "ctxshaper",
        "torch",
        "transformers",
        "tokenizers",
        "triton",
        "sentence-transformers",
        "bm25s",
        "faiss-cpu",
    )
    for name in (*names, "langchain-core", "llama-index-core"):
        try:
            table.add_row(name, version(name))
        except PackageNotFoundError:
            table.add_row(name, "not installed")
    healthy = True
    try:
        from ctxshaper import Reader

        started = time.perf_counter()
        reader = Reader()
        table.add_row("device", f"{reader.device}, {reader.dtype}")
        table.add_row("model", f"{reader.source.name} at {reader.source.location}")
        text = "The bridge was opened in 1894. It rained that day."
        reading = reader.read("When was the bridge opened?", [text])
        seconds = time.perf_counter() - started
        first, second = (float(reading.passages[0].scores[part].sum()) for part in (slice(0, 8), slice(8, None)))
        healthy = first > second
        table.add_row("self-test", f"{'passed' if healthy else 'FAILED'} in {seconds:.1f} s")
    except (CtxshaperError, ImportError) as error:
        healthy = False
        table.add_row("self-test", f"FAILED: {error}")
    Console().print(table)
    raise typer.Exit(0 if healthy else 1)


def read_passages(where: str) -> list[Passage]:
    """Passages from a file, a folder or standard input (`-`).

    A .txt or .md file is one passage; of a .jsonl file each line is one: a string, or an object with `text` and,
    if known, `id`, `title`, `score`, `metadata`. Standard input is .jsonl if its first line is a JSON object or string.

    Raises:
        InvalidInputError: nothing there, another kind of file, or a line that is no passage.
    """
    if where == "-":
        text = sys.stdin.buffer.read().decode("utf-8", "replace")
        return _lines(text, "standard input") if text.lstrip()[:1] in ("{", '"') else [Passage(text)]
    path = Path(where)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".md", ".jsonl"))
        if not files:
            raise InvalidInputError(f"{where} holds no .txt, .md or .jsonl file")
        return [passage for file in files for passage in read_passages(str(file))]
    if not path.is_file():
        raise InvalidInputError(f"there is no file or folder {where!r}")
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".jsonl":
        return _lines(text, where)
    if path.suffix in (".txt", ".md"):
        return [Passage(text, id=str(path), metadata={"title": path.stem})]
    raise InvalidInputError(f"{where} is not a .txt, .md or .jsonl file")


def _lines(text: str, where: str) -> list[Passage]:
    passages = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            if isinstance(entry, str):
                entry = {"text": entry}
            metadata = dict(entry.get("metadata") or {})
            if "title" in entry:
                metadata["title"] = entry["title"]
            name = entry.get("id")
            score = entry.get("score")
            passages.append(Passage(entry["text"], None if name is None else str(name), score, metadata))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInputError(
                f'{where}, line {number}: not a passage ({error}); a line is a JSON string or {{"text": ...}}'
            ) from error
    return passages


def _printable(text: str) -> str:
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _with_progress(work: Callable[[], Context]) -> Context:
    """Run it; on a terminal, show a spinner where it takes longer than a second."""
    if not sys.stderr.isatty():
        return work()
    import threading

    from rich.console import Console

    status = Console(stderr=True).status("reading passages")
    timer = threading.Timer(1.0, status.start)
    timer.start()
    try:
        return work()
    finally:
        timer.cancel()
        timer.join()
        status.stop()
