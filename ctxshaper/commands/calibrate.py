"""`ctxshaper calibrate`: finds the heads of a model that carry relevance, and writes a head profile."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ctxshaper.commands.screening import calibrate_screen
from ctxshaper.commands.tables import show

if TYPE_CHECKING:
    from ctxshaper.calibration.abstention import FittedAbstention
    from ctxshaper.calibration.heads import Calibration, Point
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
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="The most key slots to keep of a passage; the recommended number if left out."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the profile is written; the curve is drawn beside it.")] = Path(
        "heads.json"
    ),
    date: Annotated[str | None, typer.Option(help="Noted in the profile; without it, a run repeats exactly.")] = None,
    screen: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead: set the threshold of InjectionScreen by these benign passages (files or folders; may be "
            "given again), and write the profile that has it."
        ),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option(min=0, max=0.5, help="With --screen: the share of them that may be flagged.")
    ] = 0.01,
    classifier: Annotated[
        str | None, typer.Option(help="With --screen: the classifier whose threshold is asked, instead of the probe's.")
    ] = None,
) -> None:
    """Find which heads of a model point at evidence, how few layers and bytes a token suffice, and when to abstain."""
    if screen:
        calibrate_screen(screen, model, classifier, false_alarms, out)
        return
    # Heavy imports wait until the command runs, so that --help is quick, and until the data is there.
    asked = evidence_questions(data)[:questions] if data else []
    from ctxshaper.calibration.curve import curve_svg
    from ctxshaper.calibration.head_masses import HeadReader
    from ctxshaper.calibration.heads import calibrate as search
    from ctxshaper.calibration.heads import case_of
    from ctxshaper.calibration.made_up import synthetic_questions
    from ctxshaper.text.segments import sentences

    console = Console(stderr=True)

    def bar(numbers: Sequence[int], what: str = "Choosing") -> Iterable[int]:
        return track(numbers, what, console=console)

    asked = asked or synthetic_questions(questions)
    reader = HeadReader(model)
    cases = []
    for question in track(asked, "Reading", console=console):
        units = [[s for s in sentences(p.source) if p.source[s.start : s.end].strip()] for p in question.passages]
        cases.append(case_of(question, units, reader.read(question.query, question.passages, units)))
    found = search(cases, reader.shape, folds=folds, layers=layers, slots=slots, progress=bar)
    source: dict[str, Any] = {"data": data.name if data else "synthetic", "questions": len(asked), "folds": folds}
    if data and data.is_file():
        source["sha256"] = hashlib.sha256(data.read_bytes()).hexdigest()
    if date:
        source["date"] = date
    profile = profile_of(found, reader.base, source)
    fitted = _abstention(asked, model, profile, folds, lambda numbers: bar(numbers, "Abstaining"))
    told = {"by_threshold": list(fitted.by_threshold), "auroc": fitted.separation, "questions": len(asked)}
    provenance = {**profile.provenance, "abstention": told}
    profile = replace(profile, abstention=fitted.abstention, provenance=provenance)
    profile.save(out)
    drawing = out.with_suffix(".svg")
    title = f"{reader.name}: evidence kept of unseen questions"
    drawing.write_text(curve_svg(found, title), encoding="utf-8")
    _show(found, reader.name, console)
    _show_abstention(fitted, console)
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


def _abstention(
    questions: Sequence[EvidenceQuestion],
    model: str | None,
    profile: HeadProfile,
    folds: int,
    progress: Callable[[Sequence[int]], Iterable[int]],
) -> FittedAbstention:
    """When the new profile's reader should keep nothing; with the cosine where the embedding model is installed."""
    from ctxshaper.calibration.abstention import fit, signals_of
    from ctxshaper.errors import MissingDependencyError
    from ctxshaper.reading.reader import Reader
    from ctxshaper.stages.parts import Parts

    parts = Parts(reader=Reader(model, profile=profile))
    embedding = True
    try:
        parts.embedder.embed(["anything"])
    except MissingDependencyError:
        embedding = False
    return fit(signals_of(questions, parts, embedding=embedding, progress=progress), folds)


def profile_of(found: Calibration, base: HeadProfile, source: dict[str, Any]) -> HeadProfile:
    """The head profile with what it was made from and how well it did.

    Args:
        found: the heads and the curve.
        base: whose frame of text was read.
        source: where the questions come from.
    """
    from ctxshaper import __version__
    from ctxshaper.calibration.head_fit import SHARES
    from ctxshaper.reading.profile import Head, HeadProfile

    names = [f"{share:.0%}" for share in SHARES]

    def measured(point: Point) -> dict[str, Any]:
        return {
            **dict(zip(names, (round(m, 4) for m in point.mean), strict=True)),
            "interval": [round(point.low, 4), round(point.high, 4)],
        }

    chosen = found.chosen
    provenance = {
        "made_by": f"ctxshaper {__version__} calibrate",
        **source,
        "reading": "the query is read alone",
        "measure": "share of the evidence's sentences among the best that fill a share of the tokens, unseen folds; "
        "95% bootstrap interval of the mean over the shares",
        "quality": measured(chosen),
        "layers": {"read": chosen.layers, "recommended": found.recommended},
        "slots": {"kept": chosen.slots, "bytes_a_token": chosen.slots * found.slot_bytes},
        "chosen_by_folds": {f"{layer}.{head}": votes for layer, head, _, votes in found.heads},
        "rows": list(found.by_rows),
        "settings": list(found.settings),
        "by_slots": [{"slots": p.slots, **measured(p)} for p in found.by_slots],
        "by_layers": [{"layers": p.layers, **measured(p)} for p in found.by_layers],
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
        found.rows,
        injection=base.injection,
    )


def _show(found: Calibration, name: str, console: Console) -> None:
    from ctxshaper.calibration.head_fit import SHARES

    def numbers(values: Iterable[float]) -> list[str]:
        return [f"{value:.3f}" for value in values]

    chosen = found.chosen
    slots = Table()
    for column in ("slots", "bytes a token", *(f"at {s:.0%}" for s in SHARES), "95% of mean", ""):
        slots.add_column(column, justify="right")
    for point in found.by_slots:
        mark = "chosen" if point.slots == chosen.slots else ""
        slots.add_row(str(point.slots), str(point.slots * found.slot_bytes), *numbers(point.mean), _band(point), mark)
    show(console, f"{name}: evidence kept of unseen questions, against key slots", slots)
    curve = Table()
    for column in ("layers", "of all", *(f"at {s:.0%}" for s in SHARES), "95% of mean", ""):
        curve.add_column(column, justify="right")
    before = None
    for point in found.by_layers:
        mark = "chosen" if point.layers == chosen.layers else ""
        # Layers that add nothing are left out of the table; the profile holds all.
        if point.mean != before or mark:
            share = f"{point.layers / len(found.by_layers):.0%}"
            curve.add_row(str(point.layers), share, *numbers(point.mean), _band(point), mark)
        before = point.mean
    show(console, f"against layers read, {chosen.slots} slots", curve)
    for rows, title in ((found.by_rows, "rows of the question that count"), (found.settings, "attention as a score")):
        compared = Table()
        for column in ("", *(f"at {s:.0%}" for s in SHARES), "gain", "low", "high"):
            compared.add_column(column, justify="right" if column else "left")
        for row in rows:
            mark = " (chosen)" if row["name"] == found.rows else ""
            compared.add_row(row["name"] + mark, *numbers(row["quality"]), *(f"{g:+.3f}" for g in row["gain"]))
        show(console, f"{title}: gain over the first, 95% interval", compared)
    for layer, head, weight, votes in found.heads:
        console.print(f"layer {layer}, head {head}: weight {weight}, chosen by {votes:.0%} of the folds")


def _show_abstention(fitted: FittedAbstention, console: Console) -> None:
    from ctxshaper.calibration.abstention import KINDS

    table = Table()
    for column in ("abstain", *KINDS):
        table.add_column(column, justify="right")
    for row in fitted.by_threshold:
        table.add_row(f"{row['abstain']}", *(f"{row[kind]:.0%}" for kind in KINDS))
    show(console, "`auto` keeps nothing of so many unseen contexts: answered, without the evidence, at random", table)


def _band(point: Point) -> str:
    return f"{point.low:.2f}–{point.high:.2f}"
