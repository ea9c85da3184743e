"""Screening passages: the injection probe's scores of their tokens, which lie beside their keys."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.evidence import notes_of, readings_of
from ctxshaper.reading.reader_model import ReaderModel
from ctxshaper.reading.reading import Screening
from ctxshaper.reading.scoring import Scores, checked

# A title's tokens count as at least so many: the mean of fewer says little (of 500 titles of Wikipedia 5 passed the
# threshold with their plain means, "Happy Bhag Jayegi" and "Let's Smile" among them).
_TITLE = 12


def screen_passages(model: ReaderModel, passages: Sequence[Passage | str]) -> Screening:
    """See `Reader.screen`."""
    probe = model.profile.injection
    if probe is None:
        raise InvalidInputError(
            f"the head profile of {model.profile.model!r} has no injection probe; fit one (docs/screening.md), or use "
            "another detector"
        )
    model.keep_marks()
    started, prepared = time.perf_counter(), model.layout.prepare(passages)
    found, headings = Scores(np.zeros(0, dtype=np.float32), {}), [-math.inf] * len(prepared.tokens)
    with model.shelf.take(prepared.wanted, prepared.lengths) as taken:
        if prepared.lengths:
            numbers, places = taken.held.own_marks()
            found = Scores(checked(numbers), places)
        notes = notes_of(taken, started, 0.0, model, "evidence")
    notes.pop("read_anew", None)  # that is about the keys, which nobody asked for
    for place, tokens in enumerate(prepared.tokens):
        if tokens.heading and tokens.keys[0] in found:
            headings[place] = float(found[tokens.keys[0]][: tokens.heading].sum() / max(tokens.heading, _TITLE))
    return Screening(readings_of(model, prepared, found), headings, probe.threshold, notes)
