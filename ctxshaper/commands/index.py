"""`ctxshaper index PASSAGES --store DIR`: reads a corpus ahead of time, so that its first query finds it read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctxshaper.commands.store import parse_size, readable
from ctxshaper.data import Passage
from ctxshaper.data.files import iter_passages
from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines import Pipeline, Recipe

if TYPE_CHECKING:
    from ctxshaper.reading.reader import Reader
    from ctxshaper.reading.reading import Remembered
    from ctxshaper.reading.store import KeyStore


def index(
    passages: Annotated[
        list[str],
        typer.Argument(
            help="Files of text (one passage each), JSON lines or a JSON list of passages, folders of them, or - for "
            "standard input. Of any length."
        ),
    ],
    store: Annotated[Path, typer.Option(help="The store's folder; made if it is not there.", metavar="DIR")],
    model: Annotated[
        str | None, typer.Option(help="The reader's model: a folder or hub name, as shaping will be given.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="A recipe, by name or file, whose stages' own work is done ahead too: for qa, sentence embeddings. "
            "The reader's keys alone if left out."
        ),
    ] = None,
    max_bytes: Annotated[
        str | None, typer.Option(help="The bound on the store's file, such as 2GiB; its own, or 16 GiB, if left out.")
    ] = None,
) -> None:
    """Read passages ahead of time into a store, where shaping with the same --store, --model and --recipe finds them.

    What the store holds already is skipped: a run that was stopped is simply started again.
    """
    # What the user may have mistyped is checked before anything that takes seconds is imported.
    bound = None if max_bytes is None else parse_size(max_bytes)
    loaded = None if recipe is None else Recipe.load(recipe)
    _refuse_store_among(passages, store)
    stream = iter_passages(passages, _say)
    total = _characters(passages)
    if total is not None:
        stream = iter_passages(passages, lambda _: None)  # what is left out was said
    from ctxshaper.reading.reader import Reader
    from ctxshaper.reading.store import KeyStore

    with KeyStore(store, max_bytes=bound) as keys:
        # The store is the memory here: what is read is not kept in this process too.
        reader, before = Reader(model, store=keys, cache_bytes=0), _held(keys)
        _ = reader.layout  # the model is loaded before the clock starts
        if loaded is not None:
            stream = Pipeline.from_recipe(loaded, reader=reader).prepare(stream)
        started = time.perf_counter()
        done, stopped = _run(reader, stream, total)
        _report(done, time.perf_counter() - started, keys)
        missing = before + done.read_windows - _held(keys)
    if missing > 0:
        _say(
            f"{missing:,} texts that were read, now or before, are not in the store: it cannot be written, or its "
            "bound is too small and --max-bytes can raise it"
        )
    if stopped:
        _say("stopped; what was read is in the store, and the same command goes on from here")
        raise typer.Exit(130)
    if missing > 0:
        raise typer.Exit(1)


def _run(reader: Reader, stream: Iterable[Passage], total: int | None) -> tuple[Remembered, bool]:
    """What was read, and whether Ctrl-C ended it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from ctxshaper.reading.reading import Remembered

    columns = (
        TextColumn("{task.fields[passages]:,} passages, {task.fields[rate]:,.0f} tokens a second"),
        BarColumn(),
        TimeElapsedColumn(),
        *(() if total is None else (TextColumn("rest"), TimeRemainingColumn())),
    )
    done, started = Remembered(), time.perf_counter()
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=total, passages=0, rate=0.0)
        try:
            for group in reader.remember_stream(stream):
                done += group
                rate = done.read_tokens / (time.perf_counter() - started)
                progress.update(task, advance=group.characters, passages=done.passages, rate=rate)
        except KeyboardInterrupt:
            return done, True
    return done, False


def _report(done: Remembered, seconds: float, store: KeyStore) -> None:
    rate = done.read_tokens / seconds if seconds else 0.0
    typer.echo(
        f"{done.passages:,} passages with {done.tokens:,} tokens, {done.known:,} of them read already or repeated; "
        f"{done.read_tokens:,} tokens read in {seconds:.1f} seconds, {rate:,.0f} a second; "
        f"the store takes {readable(store.stat().file_bytes)}"
    )


def _characters(paths: list[str]) -> int | None:
    """Of all passages, for the time that is left; None of what can be read only once.

    It is also a look at every line before hours of reading, so a mistake in the last one is found at once.
    """
    if not all(Path(path).is_dir() or Path(path).is_file() for path in paths):
        return None
    return sum(len(passage.source) for passage in iter_passages(paths, _say))


def _refuse_store_among(paths: list[str], store: Path) -> None:
    """A folder is read with all below it, the store's own file too, unless it is hidden."""
    own = store.resolve()
    for path in map(Path, paths):
        if path.is_dir() and own.is_relative_to(path.resolve()):
            below = own.relative_to(path.resolve()).parts
            if not any(part.startswith(".") for part in below):
                raise InvalidInputError(
                    f"the store {store} lies in {path}, which is read whole: put the store elsewhere, or in a folder "
                    "whose name begins with a dot"
                )


def _held(store: KeyStore) -> int:
    """How many texts' keys the store holds."""
    return sum(space.entries for space in store.stat().namespaces if space.kind == "keys")


def _say(message: str) -> None:
    typer.echo(f"ctxshaper: {message.encode('utf-8', 'replace').decode()}", err=True)
