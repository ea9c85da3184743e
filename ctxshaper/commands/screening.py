"""`ctxshaper calibrate --screen`: the threshold of InjectionScreen, from false alarms on the user's benign passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctxshaper.commands.tables import show
from ctxshaper.data import Passage
from ctxshaper.data.files import iter_passages
from ctxshaper.data.page.escaping import visible
from ctxshaper.errors import InvalidInputError

# Most of a passage's text that is shown of those that are flagged.
_SHOWN = 100


def calibrate_screen(
    benign: Sequence[Path], model: str | None, classifier: str | None, false_alarms: float, out: Path
) -> None:
    """Print the threshold that so many benign passages exceed; for the probe, write the profile that has it.

    Args:
        benign: files or folders of passages that carry no instructions to a model.
        model: the reader's.
        classifier: the classifier whose threshold is asked; None for the reader's probe.
        false_alarms: the share of benign passages that may be flagged.
        out: where the profile is written.

    Raises:
        InvalidInputError: too few passages, or a reader whose profile has no probe.
    """
    console = Console(stderr=True)
    # Read whole before anything that takes seconds is imported.
    passages = [one for one in iter_passages(list(benign), console.print) if one.source.strip()]
    if not passages:
        raise InvalidInputError(f"there is no passage in {', '.join(map(str, benign))}")
    from ctxshaper.calibration.screening import passage_scores, threshold_of
    from ctxshaper.reading.reader import Reader
    from ctxshaper.stages.injection_screen import InjectionScreen
    from ctxshaper.stages.parts import Parts

    screen = InjectionScreen(detector="classifier", model=classifier) if classifier else InjectionScreen()
    reader = Reader(model)
    scores = passage_scores(screen, passages, Parts(reader=reader))
    threshold = threshold_of(scores, false_alarms)
    _show(passages, scores.tolist(), threshold, console)
    if classifier:
        console.print(f"threshold: {threshold:.4f}, for InjectionScreen(detector='classifier', model={classifier!r})")
        return
    profile = reader.profile
    if profile.injection is None:  # it would not have scored anything
        raise InvalidInputError(f"the head profile of {profile.model!r} has no injection probe")
    told = {"benign_passages": len(passages), "false_alarms": false_alarms}
    replace(
        profile,
        injection=replace(profile.injection, threshold=round(threshold, 4)),
        provenance={**profile.provenance, "injection_threshold": told},
    ).save(out)
    console.print(f"Written to {out}; Reader(profile={str(out)!r}) uses it", soft_wrap=True)


def _show(passages: Sequence[Passage], scores: Sequence[float], threshold: float, console: Console) -> None:
    """The passages that the threshold flags all the same, and those next below it."""
    table = Table()
    for column in ("score", "", "passage"):
        table.add_column(column, justify="right" if column == "score" else "left")
    order = sorted(range(len(passages)), key=lambda place: -scores[place])
    flagged = sum(score > threshold for score in scores)
    for place in order[: flagged + 3]:
        text = visible(" ".join(passages[place].source[: 4 * _SHOWN].split())[:_SHOWN])
        mark = "flagged" if scores[place] > threshold else ""
        table.add_row(f"{scores[place]:.2f}", mark, Text(text))
    show(console, f"{flagged} of {len(passages)} benign passages above {threshold:.2f}", table)
