"""`ctxshaper profile`: measures a generator's positions and writes a profile that AttnRank follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctxshaper.commands.tables import show


def profile(
    generator: Annotated[
        str, typer.Option(help="A folder, GGUF file or hub name, or SmolLM2-135M-Instruct.")
    ] = "SmolLM2-135M-Instruct",
    slots: Annotated[int, typer.Option(min=2, help="K: how many passages the generator is given.")] = 5,
    by: Annotated[
        Literal["attention", "accuracy"],
        typer.Option(help="attention reads a local model's layers; accuracy asks and looks at the answers."),
    ] = "attention",
    data: Annotated[
        Path | None, typer.Option(help="Labelled questions (HotpotQA, Lost in the Middle); a small set ships.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="N: prompts of shuffled passages (attention).")] = 200,
    measure: Annotated[
        Literal["log-likelihood", "accuracy"], typer.Option(help="What orders are compared by.")
    ] = "log-likelihood",
    gains: Annotated[bool, typer.Option(help="Measure whether the order pays; AttnRank follows only if so.")] = True,
    out: Annotated[Path, typer.Option(help="Where the profile is written.")] = Path("positions.json"),
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
) -> None:
    """Measure which positions a generator makes most of, and whether reordering pays."""
    # Heavy imports wait until the command runs, so that --help is quick, and until the data is there.
    from ctxshaper.evaluation.loaders import load_questions
    from ctxshaper.evaluation.questions import made_up_questions

    questions = load_questions(data) if data else made_up_questions()
    from ctxshaper.calibration.orders import accuracy_profile, scorer, with_gains
    from ctxshaper.calibration.positions import PositionReader, attention_profile
    from ctxshaper.generators import LocalGenerator

    console = Console(stderr=True)

    def bar(title: str) -> Callable[[Iterable[int]], Iterable[int]]:
        return lambda numbers: track(list(numbers), title, console=console)

    # A few words are asked for; what a small model rambles on behind them is not waited for.
    asked = LocalGenerator(generator, max_new_tokens=48)
    # One half makes the profile, the other says whether it pays: a profile may not be judged on what it was made from.
    first, second = questions[::2], questions[1::2]
    if by == "attention":
        made = attention_profile(
            PositionReader(generator), first, slots, prompts=prompts, seed=seed, progress=bar("Reading")
        )
    else:
        score = scorer(asked, measure)
        made = accuracy_profile(
            score, first, slots, generator=generator, measure=measure, seed=seed, progress=bar("Asking")
        )
    if gains:
        score = scorer(asked, measure)
        made = with_gains(made, score, second, measure=measure, seed=seed, progress=bar("Comparing orders"))
    made.save(out)
    table = Table()
    for column in ("slot", "share"):
        table.add_column(column, justify="right")
    for slot, share in enumerate(made.attention, start=1):
        table.add_row(str(slot), f"{share:.3f}")
    layer = f", layer {made.layer}" if made.layer is not None else ""
    show(console, f"{made.generator}, {slots} slots{layer}", table)
    for name, gain in made.gains.items():
        console.print(f"against {name}: {gain.gain:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}], p = {gain.p:.3f}")
    if not made.gains:
        console.print("Whether reordering pays was not measured: AttnRank will leave the order alone.")
    else:
        console.print("Reordering pays." if made.pays else "No gain beyond noise: AttnRank will leave the order alone.")
    console.print(f"Written to {out}")
