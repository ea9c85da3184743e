"""Reading by GemFilter's rule (arXiv 2409.17422): whole prompts causally, or passages and query each by themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.reading.attention import ReadPrompt
from ctxshaper.reading.evidence import notes_of, readings_of
from ctxshaper.reading.reader_model import ReaderModel
from ctxshaper.reading.reading import PassageReading, Reading
from ctxshaper.reading.scoring import checked, gem_token_scores

SET = "gem"


def read_gem_alone(model: ReaderModel, query: str, passages: Sequence[Passage | str]) -> Reading:
    """Score passages that were read by themselves; see `Reader.read_gem`."""
    started, layout = time.perf_counter(), model.layout
    question = layout.question(query)
    # The rule looks from the prompt's last token.
    last = len(question.ids) - 1
    question = replace(question, rows=(last,), counts=np.ones(1), key=question.key + b"last")
    prepared = layout.prepare(passages)
    before = time.perf_counter()
    rows = model.questions(SET).rows([question])[0]
    asking = time.perf_counter() - before
    with model.shelf_for(SET).take(prepared.wanted, prepared.lengths) as taken:
        found = gem_token_scores(rows, model.heads(SET).slots, taken)
        return Reading(query, readings_of(model, prepared, found), notes_of(taken, started, asking, model, SET))


def read_gem_prompt(model: ReaderModel, query: str, passages: Sequence[Passage | str], *, calibrated: bool) -> Reading:
    """Score passages in one causal prompt; see `Reader.read_gem`."""
    started = time.perf_counter()
    ids, ranges, tokens = model.layout.prompt(query, [Passage.of(passage) for passage in passages])
    scores = _prompt_scores(model, ids)
    if calibrated:
        dummy, blank = model.encoder.data(" N/A")[0], list(ids)
        for (a, b), one in zip(ranges, tokens, strict=True):
            blank[a - one.heading : b] = islice(cycle(dummy), one.heading + b - a)
        bias = _prompt_scores(model, blank)
        for a, b in ranges:
            scores[a:b] -= bias[a:b].mean() if a < b else 0
    read = [PassageReading(t.offsets, scores[a:b]) for t, (a, b) in zip(tokens, ranges, strict=True)]
    notes = {"tokens_read": len(ids), "milliseconds": 1e3 * (time.perf_counter() - started)}
    return Reading(query, tuple(read), notes)


def _prompt_scores(model: ReaderModel, ids: list[int]) -> NDArray[np.float32]:
    call = ReadPrompt(model.profile.filter_layer)
    model.decoder.run(ids, range(len(ids)), call)
    assert call.gem is not None  # noqa: S101  # the filter layer is always loaded
    return checked(call.gem)
