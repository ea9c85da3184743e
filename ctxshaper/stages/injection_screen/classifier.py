"""A sequence classifier as detector: the probability that a window of sentences is an injection."""

from __future__ import annotations

from collections.abc import Sequence

from ctxshaper.data import Passage
from ctxshaper.models.classifier import classifier
from ctxshaper.stages.injection_screen.findings import Findings
from ctxshaper.stages.injection_screen.windows import highest, windows_of
from ctxshaper.stages.units import Unit

# Classifiers take 512 tokens; in a fourth of that a sentence is not drowned by its neighbours. Set by hand.
_WINDOW = 128
_THRESHOLD = 0.5


def classified(passages: Sequence[Passage], units: Sequence[Unit], model: str) -> Findings:
    """Score units by the classifier of that name; a title by itself.

    Raises:
        ModelError: as `Classifier`.
    """
    judge = classifier(model)
    windows = windows_of(passages, units, judge.encoder, _WINDOW)
    titled = [place for place, passage in enumerate(passages) if passage.title]
    scores = judge.scores([window.text for window in windows] + [passages[place].title for place in titled]).tolist()
    headings = [float("-inf")] * len(passages)
    for place, score in zip(titled, scores[len(windows) :], strict=True):
        headings[place] = score
    return Findings(highest(windows, scores[: len(windows)], len(units)).tolist(), headings, _THRESHOLD)
