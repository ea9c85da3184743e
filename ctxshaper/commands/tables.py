"""Tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(console: Console, title: str, table: Table) -> None:
    """Print a table under its title: rich's own titles are wrapped to the width of the table.

    Args:
        console: where to.
        title: printed as it is, without markup: names in it come from the user's files.
        table: the table.
    """
    console.print(Text(title, style="italic"), soft_wrap=True)
    console.print(table)
