"""Reading for evidence: which tokens of passages a query's tokens attend to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.layout import Prepared, Question
from ctxshaper.reading.prefill import Wanted
from ctxshaper.reading.reader_model import ReaderModel
from ctxshaper.reading.reading import PassageReading, PassageReadings, Reading
from ctxshaper.reading.scoring import Partial, Scores, by_rarity, evidence_scores, placed
from ctxshaper.reading.shelf import Taken

SET = "evidence"
# A question without content: what attention falls on anyhow (In-Context Re-ranking, arXiv 2410.02642).
_NOTHING = "N/A"


def read_evidence(model: ReaderModel, requests: Sequence[tuple[str, Sequence[Passage | str]]]) -> list[Reading]:
    """One reading per request; see `Reader.read` and `Reader.read_batch`."""
    started, layout = time.perf_counter(), model.layout
    # A query that cannot be asked is refused before anything is read.
    questions = [layout.question(query) for query, _ in requests]
    # A GPU is at work on the queries while the host looks the passages up.
    rows = model.questions(SET).rows(questions, _without(model))
    asking = time.perf_counter() - started
    prepared = [layout.prepare(passages) for _, passages in requests]
    with model.shelf_for(SET).take(*_together(prepared)) as taken:
        readings = []
        for (query, _), question, own, some in zip(requests, questions, rows, prepared, strict=True):
            if model.profile.rows == "rare":
                own = by_rarity(own, [question.ids[row] for row in question.rows], list(some.wanted.values()))
            readings.append(_reading(model, query, own, some, taken, started, asking))
    return readings


def read_heads(model: ReaderModel, query: str, passages: Sequence[Passage | str]) -> dict[str, Reading]:
    """See `Reader.read_heads`."""
    started, question = time.perf_counter(), model.layout.question(query)
    rows = model.questions(SET).rows([question], _without(model))[0]
    prepared = model.layout.prepare(passages)
    with model.shelf_for(SET).take(prepared.wanted, prepared.lengths) as taken:
        if model.profile.rows == "rare":
            rows = by_rarity(rows, [question.ids[row] for row in question.rows], list(prepared.wanted.values()))
        found = {}
        for place, pair in sorted(enumerate(model.heads(SET).pairs), key=lambda one: -abs(one[1].weight)):
            alone = _reading(model, query, rows.of_pair(place), prepared, taken, started, 0.0)
            found[f"layer {pair.layer}, head {pair.head}"] = alone
        return found


def query_rows(model: ReaderModel, query: str) -> QueryRows:
    """See `Reader.query_rows`."""
    if model.profile.rows == "rare":
        raise InvalidInputError(
            "this profile weighs a query's tokens by how rare they are in the passages, which a query by itself does "
            "not know; use `read`, or a profile with other rows"
        )
    return model.questions(SET).rows([model.layout.question(query)], _without(model))[0]


def partial_evidence(model: ReaderModel, rows: QueryRows, passages: Sequence[Passage | str]) -> Partial:
    """See `Reader.partial`."""
    started, prepared = time.perf_counter(), model.layout.prepare(passages)
    with model.shelf_for(SET).take(prepared.wanted, prepared.lengths) as taken:
        own = placed(rows, model.heads(SET).slots, taken.slots)
        lse = own.lse(taken.held.arena, taken.held.ranges).cpu().numpy()
        return Partial(lse, notes_of(taken, started, 0.0, model, SET))


def read_evidence_rows(
    model: ReaderModel, rows: QueryRows, passages: Sequence[Passage | str], whole: Partial | None
) -> Reading:
    """See `Reader.read_rows`."""
    started, prepared = time.perf_counter(), model.layout.prepare(passages)
    with model.shelf_for(SET).take(prepared.wanted, prepared.lengths) as taken:
        return _reading(model, "", rows, prepared, taken, started, 0.0, whole)


def _together(prepared: Sequence[Prepared]) -> tuple[Wanted, Mapping[bytes, int]]:
    if len(prepared) == 1:
        return prepared[0].wanted, prepared[0].lengths
    wanted = {key: ids for one in prepared for key, ids in one.wanted.items()}
    return wanted, {key: len(wanted[key]) for key in sorted(wanted)}


def _without(model: ReaderModel) -> Question | None:
    return model.layout.question(_NOTHING) if model.profile.contrast else None


def _reading(
    model: ReaderModel,
    query: str,
    rows: QueryRows,
    prepared: Prepared,
    taken: Taken,
    started: float,
    asking: float,
    whole: Partial | None = None,
) -> Reading:
    found = evidence_scores(rows, model.heads(SET).slots, taken, prepared.lengths, whole)
    notes = notes_of(taken, started, asking, model, SET)
    return Reading(query, readings_of(model, prepared, found), notes, found.on_prefix, model.profile.abstention)


def readings_of(model: ReaderModel, prepared: Prepared, found: Scores) -> PassageReadings:
    """One reading per passage, made when it is looked at."""
    tokens, joined = prepared.tokens, model.layout.joined
    return PassageReadings(len(tokens), lambda i: PassageReading(tokens[i].offsets, joined(tokens[i], found)))


def notes_of(taken: Taken, started: float, asking: float, model: ReaderModel, name: str) -> dict[str, object]:
    """What a reading took, for the trace; `asking` is the seconds of the query's own pass."""
    notes: dict[str, object] = {
        "cache_hits": taken.hits,
        "cache_misses": taken.misses,
        "from_store": taken.stored,
        "query_milliseconds": 1e3 * asking,
        "prefill_milliseconds": 1e3 * taken.seconds,
        "milliseconds": 1e3 * (time.perf_counter() - started),
    }
    if not model.keeps(name):
        notes["read_anew"] = f"keys of the head set {name!r} are not remembered; name it in the reader's sets"
    return notes
