"""`ctxshaper eval`: what recipes and other tools keep of labelled questions, at equal tokens."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctxshaper.commands.tables import show
from ctxshaper.errors import InvalidInputError

if TYPE_CHECKING:
    from ctxshaper.evaluation.summary import Summary


class Measure(StrEnum):
    """What costs passes of a language model and is measured on request."""

    likelihood = "likelihood"
    answers = "answers"
    distraction = "distraction"
    order = "order"


def evaluate(
    data: Annotated[
        str, typer.Option(help="Questions: a file or folder, or hub:OWNER/NAME:SPLIT; see docs/evaluation.md.")
    ],
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="A recipe, baseline:NAME for another tool, or baselines for all installed. Repeat it."),
    ] = None,
    budget: Annotated[str, typer.Option(help="Budgets, between commas.")] = "15%,30%,50%",
    measure: Annotated[
        list[Measure] | None, typer.Option(help="Also measure this, with the generator. Repeat it.")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="A local model that answers; the embedded if left out.")] = None,
    model: Annotated[str | None, typer.Option(help="The reader's model: a folder, GGUF file or hub name.")] = None,
    profile: Annotated[Path | None, typer.Option(help="The reader's heads, as `calibrate` wrote them.")] = None,
    format: Annotated[str | None, typer.Option(help="The format of the data, where it cannot be told.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    out: Annotated[Path, typer.Option(help="A folder; a run that was cut off goes on where it stopped.")] = Path(
        "evaluation"
    ),
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
) -> None:
    """Measure what recipes keep of labelled questions, at equal tokens."""
    # Heavy imports wait until the command runs, so that --help is quick, and until the data is there.
    from ctxshaper.evaluation.loaders import load_questions

    questions = load_questions(data, format)[:limit]
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out} is a file; --out takes a folder")
    from ctxshaper.evaluation.baselines import BASELINES, installed_baselines
    from ctxshaper.evaluation.comparison import BASELINE, Comparison
    from ctxshaper.evaluation.report import to_html
    from ctxshaper.evaluation.summary import summarize
    from ctxshaper.reading.profile import HeadProfile

    console = Console(stderr=True)
    recipes: list[str] = []
    for name in recipe or ["qa"]:
        recipes += [BASELINE + one for one in installed_baselines()] if name == "baselines" else [name]
    if "baselines" in (recipe or []) and (missing := [name for name in BASELINES if BASELINE + name not in recipes]):
        console.print(f"not installed, and left out: {', '.join(missing)}")
    budgets = [part.strip() for part in budget.split(",") if part.strip()]
    heads = HeadProfile.load(profile) if profile else None
    comparison = Comparison(recipes, budgets, [m.value for m in measure or []], seed, generator, model, heads)
    results = comparison.run(
        questions, out / "results.jsonl", progress=lambda asked: track(asked, "Evaluating", console=console)
    )
    settings = {
        "reader": f"{model or 'embedded'}, heads of {profile.name}" if profile else model or "embedded",
        "generator": (generator or "embedded") if measure else "none",
        "seed": seed,
    }
    summary = summarize(results, data=Path(data).name if not data.startswith("hub:") else data, settings=settings)
    (out / "summary.json").write_text(json.dumps(summary.to_dict(), indent=2), encoding="utf-8")
    # A lone surrogate of the data cannot be written as UTF-8.
    (out / "report.html").write_bytes(to_html(summary).encode("utf-8", "replace"))
    show(Console(), f"{summary.data}, {summary.questions} questions", table(summary))
    console.print(f"Written to {out}: report.html, summary.json, results.jsonl")


def table(summary: Summary) -> Table:
    """The figures as a table for the terminal."""
    from rich.text import Text

    from ctxshaper.evaluation.report import spelled
    from ctxshaper.evaluation.summary import MEASURES

    made = Table()
    made.add_column("recipe")
    for name in ("budget", *(MEASURES[name][0] for name in summary.measures)):
        made.add_column(name, justify="right")
    for line in summary.lines:
        cells = [spelled(n, line.values[n].mean) if n in line.values else "–" for n in summary.measures]
        # As text, not as markup: names come from the user's files.
        made.add_row(*map(Text, (line.recipe, line.budget or "–", *cells)))
    return made
