"""`ctxshaper calibrate`: finds the heads of a model that carry relevance, and writes a head profile."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctxshaper.commands.tables import show

if TYPE_CHECKING:
    from ctxshaper.calibration.heads import Calibration
    from ctxshaper.calibration.made_up import EvidenceQuestion
    from ctxshaper.reading.profile import HeadProfile


def calibrate(
    model: Annotated[
        str | None, typer.Option(help="A folder, GGUF file or hub name; the embedded model if left out.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Questions with evidence, in any format of `eval`; made-up ones if left out."),
    ] = None,
    questions: Annotated[int, typer.Option(min=4, help="How many questions are read at most.")] = 120,
    folds: Annotated[int, typer.Option(min=2, help="Each part is judged by heads that the others chose.")] = 5,
    layers: Annotated[
        int | None, typer.Option(min=1, help="The most layers to read; the recommended number if left out.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the profile is written; the curve is drawn beside it.")] = Path(
        "heads.json"
    ),
    date: Annotated[str | None, typer.Option(help="Noted in the profile; without it, a run repeats exactly.")] = None,
) -> None:
    """Find which heads of a model point at evidence, how they weigh, and how many layers suffice."""
    # Heavy imports wait until the command runs, so that --help is quick, and until the data is there.
    asked = evidence_questions(data)[:questions] if data else []
    from ctxshaper.calibration.curve import curve_svg
    from ctxshaper.calibration.head_masses import HeadReader
    from ctxshaper.calibration.heads import calibrate as search
    from ctxshaper.calibration.heads import case_of
    from ctxshaper.calibration.made_up import synthetic_questions
    from ctxshaper.text.segments import sentences

    console = Console(stderr=True)

    def bar(numbers: Sequence[int]) -> Iterable[int]:
        return track(numbers, "Choosing", console=console)

    asked = asked or synthetic_questions(questions)
    reader = HeadReader(model)
    cases = []
    for question in track(asked, "Reading", console=console):
        units = [[s for s in sentences(p.source) if p.source[s.start : s.end].strip()] for p in question.passages]
        cases.append(case_of(question, units, reader.read(question.query, question.passages, units)))
    found = search(cases, folds=folds, layers=layers, progress=bar)
    source: dict[str, Any] = {"data": data.name if data else "synthetic", "questions": len(asked), "folds": folds}
    if data and data.is_file():
        source["sha256"] = hashlib.sha256(data.read_bytes()).hexdigest()
    if date:
        source["date"] = date
    profile = profile_of(found, reader.base, source)
    profile.save(out)
    drawing = out.with_suffix(".svg")
    title = f"{reader.name}: quality on unseen questions against layers"
    drawing.write_text(curve_svg(found, title), encoding="utf-8")
    _show(found, reader.name, console)
    console.print(f"Written to {out}; curve in {drawing}", soft_wrap=True)


def evidence_questions(path: Path) -> list[EvidenceQuestion]:
    """Questions whose evidence is marked: supporting sentences, or else the answers where a gold passage holds them.

    Raises:
        InvalidInputError: the file cannot be read or has another format (as `load_questions`), or nothing is marked.
    """
    from ctxshaper.calibration.made_up import EvidenceQuestion
    from ctxshaper.data import Span
    from ctxshaper.errors import InvalidInputError
    from ctxshaper.evaluation.loaders import load_questions

    found = []
    for question in load_questions(path):
        gold: list[tuple[Span, ...]] = []
        for number, passage in enumerate(question.passages):
            spans = [span for rank, span in question.evidence if rank == number]
            if not question.evidence and number in question.gold:
                lowered = passage.source.lower()
                places = [(lowered.find(answer.lower()), len(answer)) for answer in question.answers]
                spans = [Span(at, at + size) for at, size in places if at >= 0 and size]
            gold.append(tuple(spans))
        if any(gold):
            found.append(EvidenceQuestion(question.text, question.passages, tuple(gold)))
    if not found:
        raise InvalidInputError(f"{path} marks no evidence; mark sentences, or gold passages and their answers")
    return found


def profile_of(found: Calibration, base: HeadProfile, source: dict[str, Any]) -> HeadProfile:
    """The head profile with what it was made from and how well it did.

    Args:
        found: the heads and the curve.
        base: whose frame of text was read.
        source: where the questions come from.
    """
    from ctxshaper import __version__
    from ctxshaper.calibration.heads import SHARES
    from ctxshaper.reading.profile import Head, HeadProfile

    names = [f"{share:.0%}" for share in SHARES]

    def measured(means: Sequence[float], low: float, high: float) -> dict[str, Any]:
        return {
            **dict(zip(names, (round(m, 4) for m in means), strict=True)),
            "interval": [round(low, 4), round(high, 4)],
        }

    chosen = found.chosen
    provenance = {
        "made_by": f"ctxshaper {__version__} calibrate",
        **source,
        "measure": "share of the evidence's sentences among the best that fill a share of the tokens, unseen folds; "
        "95% bootstrap interval of the mean over the shares",
        "quality": measured(chosen.mean, chosen.low, chosen.high),
        "layers": {
            "asked_for": chosen.layers,
            "best": found.best,
            "recommended": found.recommended,
            "fast": found.fast,
        },
        "chosen_by_folds": {f"{layer}.{head}": votes for layer, head, _, votes in found.heads},
        "settings": list(found.settings),
        "curve": [{"layers": p.layers, **measured(p.mean, p.low, p.high)} for p in found.curve],
    }
    heads = tuple(Head(layer, head, weight) for layer, head, weight, _ in found.heads)
    return HeadProfile(
        base.model,
        heads,
        # A filter layer behind the last head would have to be read for GemFilter alone.
        min(base.filter_layer, max(head.layer for head in heads)),
        base.prefix,
        base.before_query,
        base.after_query,
        found.contrast,
        provenance,
    )


def _show(found: Calibration, name: str, console: Console) -> None:
    from ctxshaper.calibration.heads import SHARES

    def numbers(values: Iterable[float]) -> list[str]:
        return [f"{value:.3f}" for value in values]

    curve = Table()
    for column in ("layers", "of all", *(f"at {s:.0%}" for s in SHARES), "95% of mean", ""):
        curve.add_column(column, justify="right")
    marks = {found.best: "best", found.fast: "fast", found.recommended: "recommended"}
    before = None
    for point in found.curve:
        # Layers that add nothing are left out of the table; the profile holds all.
        if point.mean != before or point.layers in marks:
            share = f"{point.layers / len(found.curve):.0%}"
            band = f"{point.low:.2f}–{point.high:.2f}"
            curve.add_row(str(point.layers), share, *numbers(point.mean), band, marks.get(point.layers, ""))
        before = point.mean
    show(console, f"{name}: evidence kept of unseen questions, against layers read", curve)
    settings = Table()
    for column in ("setting", *(f"at {s:.0%}" for s in SHARES), "gain", "low", "high"):
        settings.add_column(column, justify="left" if column == "setting" else "right")
    for row in found.settings:
        settings.add_row(row["setting"], *numbers(row["quality"]), *(f"{g:+.3f}" for g in row["gain"]))
    show(console, "attention as a score: gain over the first, 95% interval", settings)
    for layer, head, weight, votes in found.heads:
        console.print(f"layer {layer}, head {head}: weight {weight}, chosen by {votes:.0%} of the folds")
