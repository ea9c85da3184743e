"""The embedded detector: a linear probe per token on what the reader computes when it reads a passage anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.unit_scores import peak_scores
from ctxshaper.stages.injection_screen.findings import Findings
from ctxshaper.stages.run import Run
from ctxshaper.stages.units import Unit

# Tokens of a window in a long sentence: about as long as a short order to the model.
WIDTH = 24


def probed(passages: Sequence[Passage], units: Sequence[Unit], run: Run) -> Findings:
    """Score units by the reader's probe.

    Raises:
        InvalidInputError: a reader without a probe.
    """
    reader = run.parts.reader
    if not hasattr(reader, "screen"):
        raise InvalidInputError(
            f"{type(reader).__name__} has no method `screen`, which the detector 'probe' asks; use `Reader`, or the "
            "detector 'classifier'"
        )
    found = reader.screen([as_seen(passage) for passage in passages])
    run.log.notes["screening"] = dict(found.notes)
    owners = np.array([unit.passage for unit in units], dtype=np.int64)
    scores, sizes = peak_scores(found.passages, owners, [unit.span for unit in units], WIDTH)
    scores[sizes == 0] = -np.inf  # nothing in it that the reader reads
    return Findings(scores.tolist(), list(found.headings), found.threshold)


def as_seen(passage: Passage) -> Passage:
    """The passage as the generator may see it: of HTML the markup too, where comments and hidden elements speak."""
    if passage.format != "html":
        return passage
    return replace(passage, metadata={**passage.metadata, "text_format": "prose"})
