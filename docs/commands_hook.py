"""Hook of mkdocs: writes the commands and their options into the page of the command line, from the code."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer

from ctxshaper.commands.app import app

MARK = "<!-- commands -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the commands in the mark's place."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n".join(_described(typer.main.get_command(app), "ctxshaper")))


def _described(command: Any, name: str) -> Iterator[str]:
    if hasattr(command, "commands"):
        for part, below in command.commands.items():
            yield from _described(below, f"{name} {part}")
        return
    yield from (f"## {name}", "", " ".join((command.help or "").split()), "")
    hints = get_type_hints(command.callback)
    rows = [_row(p, hints.get(p.name)) for p in command.params if "--help" not in p.opts]
    if rows:
        yield from ("| | | if left out |", "|---|---|---|", *rows, "")


def _row(parameter: Any, hint: Any) -> str:
    if parameter.param_type_name == "argument":
        name = f"`{parameter.metavar or parameter.name.upper()}`" + (" ..." if parameter.nargs == -1 else "")
    else:
        name = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
    said = " ".join((parameter.help or "").split())
    if choices := _choices(hint):
        said += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    return f"| {name} | {said} | {_default(parameter)} |"


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return [choice.value for choice in hint]
    return [choice for inner in get_args(hint) for choice in _choices(inner)]


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.secondary_opts:
        return f"`{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`"
    return "" if parameter.default in (None, []) or parameter.default is False else f"`{parameter.default}`"
