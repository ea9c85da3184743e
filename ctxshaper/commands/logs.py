"""What the library logs, on the command line's standard error."""

from __future__ import annotations

import logging

import typer

# Commands show the warnings of a context themselves, or count them.
_OF_CONTEXTS = ("ctxshaper.pipelines", "ctxshaper.stages")


class _Standard(logging.Handler):
    """Writes one line a record, as the commands write theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        """See the base."""
        if not record.name.startswith(_OF_CONTEXTS):
            typer.echo(f"ctxshaper: {record.getMessage()}".encode("utf-8", "replace").decode(), err=True)


_HANDLER = _Standard(logging.WARNING)


def show_logs() -> None:
    """Write warnings of the library on standard error; called twice it writes them once."""
    logging.getLogger("ctxshaper").addHandler(_HANDLER)
