"""`ctxshaper shape`: shapes passages for a question and prints what the generator should read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.resources import files as packaged
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from ctxshaper.data import Attention, Budget, Context, Passage
from ctxshaper.data.page.escaping import visible
from ctxshaper.errors import InvalidInputError

_T = TypeVar("_T")


def _shipped() -> str:
    # Looked up as files: importing the pipelines to ask them would slow every --help down.
    names = (entry.name for entry in packaged("ctxshaper").joinpath("pipelines", "shipped").iterdir())
    return ", ".join(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def shape(
    query: Annotated[str, typer.Option("--query", "-q", help="The user's question.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files of text (.txt, .md, .html, .csv, .log, ...: one passage each), JSON lines or a JSON list of "
            "passages, folders of them, or - for standard input."
        ),
    ] = None,
    passages: Annotated[
        list[str] | None, typer.Option("--passages", "-p", help="The same as FILES. Repeat it for more.")
    ] = None,
    recipe: Annotated[str, typer.Option(help=f"A shipped recipe ({_shipped()}) or a YAML file.")] = "qa",
    budget: Annotated[
        str | None, typer.Option(help="Tokens (500), a share (30% or 0.3) or auto; the recipe's own if left out.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The reader's model: a folder or hub name.")] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="A folder where what is read of passages is kept, and found again: ctxshaper index fills it.",
            metavar="DIR",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole shaped context, its trace included, as JSON.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page here that shows what was kept, what was dropped, and why; one file, no network.",
            metavar="FILE",
        ),
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="With --html: show what each head looked at, token by token.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Print kept and dropped text with scores instead of what is left.")
    ] = False,
    trace: Annotated[
        bool, typer.Option("--trace", help="Print what each stage did, on stderr (--json holds it already).")
    ] = False,
) -> None:
    """Shape passages for a question and print what the generator should read."""
    # What the user may have mistyped is checked before anything that takes seconds is imported.
    limit = None if budget is None else Budget.parse(budget)
    if not query.strip():
        raise InvalidInputError("the query is empty; write the question behind -q")
    if html is not None:
        _check_place(html)
    for given_too, name in ((attention and html is None, "--attention"), (show and as_json, "--show")):
        if given_too:
            raise InvalidInputError(f"{name} does not go with this: --attention needs --html, --show no --json")
    given = _passages([*(files or []), *(passages or [])])
    shaped, looked = _with_progress(lambda: _shape(query, given, recipe, limit, model, store, attention=attention))
    if html is not None:
        html.write_text(shaped.to_html(looked), encoding="utf-8")
    if show:
        from rich.console import Console

        from ctxshaper.commands.showing import show as printed

        printed(shaped, Console())
    else:
        # In a terminal, passages must not move the cursor or set the title; a pipe gets them as they are.
        text = visible(shaped.text) if sys.stdout.isatty() else _printable(shaped.text)
        typer.echo(shaped.to_json() if as_json else text)
    for warning in shaped.warnings:
        _say(warning)
    if trace and not as_json:
        typer.echo(shaped.trace.to_json(indent=2), err=True)
    if not shaped.text:
        _say(f"nothing is kept of {len(given)} passages: the shaped context is empty")
    elif not as_json and sys.stderr.isatty():
        typer.echo(f"{shaped.tokens} of {shaped.tokens_in} tokens", err=True)


def _passages(paths: list[str]) -> list[Passage]:
    from ctxshaper.data.files import iter_passages

    if not paths:
        raise InvalidInputError("no passages: name files or folders, or - for standard input")
    return list(iter_passages(paths, _say))


def _check_place(page: Path) -> None:
    if page.is_dir() or not page.parent.is_dir():
        why = "is a folder" if page.is_dir() else f"cannot be written: there is no folder {page.parent}"
        raise InvalidInputError(f"--html {page} {why}; name a file, such as page.html")


def _shape(
    query: str,
    passages: list[Passage],
    recipe: str,
    budget: Budget | None,
    model: str | None,
    store: Path | None,
    *,
    attention: bool,
) -> tuple[Context, list[Attention]]:
    from ctxshaper import Pipeline, Reader

    parts = {"reader": Reader(model, store=store)} if model else {"store": store}
    pipeline = Pipeline.from_recipe(recipe, **parts)
    shaped = pipeline.shape(query, passages, budget)
    return shaped, pipeline.attention(shaped) if attention else []


def _say(message: str) -> None:
    typer.echo(f"ctxshaper: {visible(message)}", err=True)


def _printable(text: str) -> str:
    # A lone surrogate cannot be written as UTF-8.
    return text.encode("utf-8", "replace").decode("utf-8")


def _with_progress(work: Callable[[], _T]) -> _T:
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
