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
    generator: Annotated[
        list[str] | None,
        typer.Option(help="Who answers: embedded (if left out), a folder or hub name, or MODEL@URL. Repeat it."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The reader's model: a folder, GGUF file or hub name.")] = None,
    profile: Annotated[Path | None, typer.Option(help="The reader's heads, as `calibrate` wrote them.")] = None,
    format: Annotated[str | None, typer.Option(help="The format of the data, where it cannot be told.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many questions.")] = None,
    out: Annotated[Path, typer.Option(help="A folder; a run that was cut off goes on where it stopped.")] = Path(
        "evaluation"
    ),
    against: Annotated[
        Path | None, typer.Option(help="The --out of an earlier run, of another version or recipe: compare with it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all random choices.")] = 0,
) -> None:
    """Measure what recipes keep of labelled questions, at equal tokens."""
    # Heavy imports wait until the command runs, so that --help is quick, and until the data is there.
    from ctxshaper.evaluation.loaders import load_questions

    questions = load_questions(data, format)[:limit]
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out} is a file; --out takes a folder")
    if against is not None and against.resolve() == out.resolve():
        raise InvalidInputError(f"--against {against} is where this run writes to; give it another --out")
    from ctxshaper.evaluation.baselines import BASELINES, SLOW, installed_baselines
    from ctxshaper.evaluation.comparison import BASELINE, Comparison
    from ctxshaper.evaluation.report import to_html
    from ctxshaper.evaluation.results import FILE, earlier_results
    from ctxshaper.evaluation.summary import summarize
    from ctxshaper.reading.profile import HeadProfile

    console = Console(stderr=True)
    recipes: list[str] = []
    quick = [BASELINE + one for one in installed_baselines() if one not in SLOW]
    for name in recipe or ["qa"]:
        recipes += quick if name == "baselines" else [name]
    if "baselines" in (recipe or []) and (missing := [name for name in BASELINES if BASELINE + name not in recipes]):
        console.print(f"left out, as not installed, or slow unless it is named: {', '.join(missing)}")
    budgets = [part.strip() for part in budget.split(",") if part.strip()]
    heads = HeadProfile.load(profile) if profile else None
    comparison = Comparison(
        recipes, budgets, [m.value for m in measure or []], seed, generator or (), model, profile=heads
    )
    earlier = (
        {f"run {against.resolve().name}": earlier_results(against, comparison.asked)} if against is not None else {}
    )
    results = comparison.run(questions, out / FILE, progress=lambda asked: track(asked, "Evaluating", console=console))
    settings = {
        "reader": f"{model or 'embedded'}, heads of {profile.name}" if profile else model or "embedded",
        "generator": ", ".join(comparison.asked) or "none",
        "seed": seed,
    }
    summary = summarize(
        results, data=Path(data).name if not data.startswith("hub:") else data, settings=settings, against=earlier
    )
    (out / "summary.json").write_text(json.dumps(summary.to_dict(), indent=2), encoding="utf-8")
    # A lone surrogate of the data cannot be written as UTF-8.
    (out / "report.html").write_bytes(to_html(summary).encode("utf-8", "replace"))
    show(Console(), f"{summary.data}, {summary.questions} questions", table(summary))
    for name in earlier:
        show(Console(), f"over {name}", gains(summary, name))
    console.print(f"Written to {out}: report.html, summary.json, results.jsonl")


def table(summary: Summary) -> Table:
    """The figures as a table for the terminal, without those that few ask for: the report has them all."""
    from rich.text import Text

    from ctxshaper.evaluation.report import spelled
    from ctxshaper.evaluation.summary import heading

    left_out = {"characters", "precision", "order_spread"}
    if "abstained_rightly" not in summary.measures:
        left_out.add("abstained_wrongly")
    names = [name for name in summary.measures if name not in left_out]
    cold = max((line.values["cold_ms"].count for line in summary.lines if "cold_ms" in line.values), default=0)
    made = Table(caption=f"cold ms: at {cold} of the questions" if cold else None, caption_justify="left")
    made.add_column("recipe")
    for name in ("budget", *map(heading, names)):
        # As text, not as markup: names come from the user's files and options.
        made.add_column(Text(name), justify="right")
    for line in summary.lines:
        cells = [spelled(n, line.values[n].mean) if n in line.values else "–" for n in names]
        made.add_row(*map(Text, (line.recipe, line.budget or "–", *cells)))
    return made


def gains(summary: Summary, name: str) -> Table:
    """What recipes gain over the earlier run of that name: evidence, F2 and answers; the report has all measures."""
    from rich.text import Text

    made = Table(caption="95% intervals; p of a paired sign-flip test", caption_justify="left")
    made.add_column("recipe")
    for column in ("budget", "measure", "difference", "interval", "p", "questions"):
        made.add_column(column, justify="right")
    for line in summary.lines:
        for measure in summary.measures:
            gain = line.against.get(f"{measure} over {name}")
            if gain and measure.partition("@")[0] in (summary.evidence, "f2", "likelihood", "em", "f1"):
                interval = f"{gain.low:+.3f} to {gain.high:+.3f}"
                cells = (measure, f"{gain.gain:+.3f}", interval, f"{gain.p:.4f}", str(gain.count))
                made.add_row(*map(Text, (line.recipe, line.budget, *cells)))
    return made
