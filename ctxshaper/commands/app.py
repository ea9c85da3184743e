"""The command line. Heavy imports wait until a command needs them: `--help` must answer at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ctxshaper.commands.calibrate import calibrate
from ctxshaper.commands.doctor import doctor
from ctxshaper.commands.evaluate import evaluate
from ctxshaper.commands.index import index
from ctxshaper.commands.mine_distractors import mine_distractors
from ctxshaper.commands.profile import profile
from ctxshaper.commands.serve import serve
from ctxshaper.commands.shape import shape
from ctxshaper.commands.store import store_app
from ctxshaper.errors import CtxshaperError, InvalidInputError
from ctxshaper.extras import advice

app = typer.Typer(
    name="ctxshaper",
    help="Shapes what a generator reads, between retrieval and generation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its errors as one line on stderr: exit code 2 for a user's mistake, 1 for another failure.

    What nobody foresaw keeps its traceback.
    """

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except CtxshaperError as error:
            typer.echo(f"ctxshaper: {error}", err=True)
            raise typer.Exit(2 if isinstance(error, InvalidInputError) else 1) from error
        except ImportError as error:
            line = advice(error)
            if line is None:
                raise
            typer.echo(f"ctxshaper: {line}", err=True)
            raise typer.Exit(1) from error

    return run


app.command()(explained(shape))
app.command()(explained(index))
app.command()(explained(serve))
app.command("eval")(explained(evaluate))
app.command()(explained(calibrate))
app.command()(explained(profile))
app.command("mine-distractors")(explained(mine_distractors))
app.command()(explained(doctor))
app.add_typer(store_app(explained), name="store")


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    """Shapes what a generator reads, between retrieval and generation."""
    if version:
        from ctxshaper import __version__

        typer.echo(f"ctxshaper {__version__}")
        raise typer.Exit
