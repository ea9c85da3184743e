"""Tables in the terminal."""

from rich.console import Console
from rich.table import Table

from ctxshaper.commands.tables import show


def test_a_title_longer_than_its_table_stays_on_one_line():
    console = Console(width=60, record=True)
    table = Table("a")
    table.add_row("1")
    title = "questions [bold]of[/bold] a file with a long name, " * 3
    show(console, title.strip(), table)
    assert console.export_text().splitlines()[0] == title.strip()
