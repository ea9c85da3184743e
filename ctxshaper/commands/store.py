"""`ctxshaper store stat | gc | verify DIR`: look after what is kept on disk of passages that were read."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.store.records import FILE

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?) ?([kmgt]i?)?b?", re.IGNORECASE)

Folder = Annotated[Path, typer.Argument(help="The store's folder.", metavar="DIR")]


def stat(folder: Folder) -> None:
    """Say how much a store holds, by kind of record and by what made it."""
    from rich.console import Console
    from rich.table import Table

    from ctxshaper.reading.store import KeyStore

    with KeyStore(_existing(folder), read_only=True) as store:
        found = store.stat()
    table = Table()
    for column in ("kind", "made by"):
        table.add_column(column, no_wrap=True)
    for column in ("records", "size", "last used"):
        table.add_column(column, justify="right", no_wrap=True)
    for space in found.namespaces:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(space.last_used))
        table.add_row(space.kind, space.fingerprint.hex()[:12], f"{space.entries:,}", readable(space.size), used)
    console = Console()
    console.print(table)
    console.print(
        f"{found.entries:,} records; the file takes {readable(found.file_bytes)} of at most {readable(found.max_bytes)}"
    )
    for aside in found.set_aside:
        console.print(f"set aside as damaged, may be deleted: {aside.name}")


def gc(
    folder: Folder,
    max_bytes: Annotated[
        str | None, typer.Option(help="The bound for this once, such as 2GiB; the store's own if left out.")
    ] = None,
) -> None:
    """Drop what was used least recently until the bound holds, and give the free space back."""
    from ctxshaper.reading.store import KeyStore

    bound = None if max_bytes is None else parse_size(max_bytes)
    with KeyStore(_existing(folder)) as store:
        freed = store.gc(bound)
        left = store.stat()
    typer.echo(f"freed {readable(freed)}; {left.entries:,} records in {readable(left.file_bytes)} are left")


def verify(
    folder: Folder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop damaged records; set a file aside whose structure is damaged.")
    ] = False,
) -> None:
    """Read everything a store holds, and say what is damaged; exit code 1 if something is and was not repaired."""
    from ctxshaper.reading.store import KeyStore

    with KeyStore(_existing(folder), read_only=not repair) as store:
        found = store.verify(repair=repair)
    for problem in found.structure:
        typer.echo(f"structure: {problem}", err=True)
    done = "; repaired: the passages will be read anew" if found.repaired and not found.sound else ""
    typer.echo(f"{found.records:,} records, {found.damaged:,} damaged{done}")
    if not found.sound and not found.repaired:
        raise typer.Exit(1)


def store_app(explained: Callable[[Callable[..., None]], Callable[..., None]]) -> typer.Typer:
    """The sub-commands, each wrapped so that a user's mistake is one line."""
    app = typer.Typer(help="Look after a store of passages that were read: stat, gc, verify.", no_args_is_help=True)
    for command in (stat, gc, verify):
        app.command()(explained(command))
    return app


def parse_size(text: str) -> int:
    """Bytes from `2GiB`, `500MB`, `1.5g` or a plain number.

    Raises:
        InvalidInputError: none of these.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidInputError(f"{text!r} is no size; write bytes, or a number with MB, MiB, GB or GiB")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def readable(size: float) -> str:
    """A size for people: three digits and a unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def _existing(folder: Path) -> Path:
    # A mistyped folder must not become an empty store. Looked at before anything heavy is imported.
    if not (folder / FILE).is_file():
        raise InvalidInputError(f"there is no store in {folder}; `ctxshaper index PASSAGES --store {folder}` makes one")
    return folder
