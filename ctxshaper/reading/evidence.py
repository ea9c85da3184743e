"""Reading for evidence: which tokens of passages a query's tokens attend to."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.layout import Question
from ctxshaper.reading.passage_tokens import Tokens
from ctxshaper.reading.reader_model import ReaderModel
from ctxshaper.reading.reading import PassageReading, Reading
from ctxshaper.reading.scoring import Partial, by_rarity, evidence_scores, placed
from ctxshaper.reading.shelf import Taken

SET = "evidence"
# A question without content: what attention falls on anyhow (In-Context Re-ranking, arXiv 2410.02642).
_NOTHING = "N/A"


def read_evidence(
    model: ReaderModel, requests: Sequence[tuple[str, Sequence[Passage | str]]], hint: str = ""
) -> list[Reading]:
    """One reading per request; see `Reader.read` and `Reader.read_batch`."""
    started, layout = time.perf_counter(), model.layout
    # A query that cannot be asked is refused before anything is read.
    questions = [layout.question(query, hint) for query, _ in requests]
    tokens = [_tokens(model, passages) for _, passages in requests]
    wanted = layout.wanted(tokens)
    rows = model.questions(SET).rows(questions, _without(model))
    with model.shelf_for(SET).take(wanted) as taken:
        readings = []
        for (query, _), question, own, some in zip(requests, questions, rows, tokens, strict=True):
            if model.profile.rows == "rare":
                own = by_rarity(own, _asked(question), [ids for one in some for ids in one.ids])
            readings.append(_reading(model, query, own, some, taken, started))
    return readings


def query_rows(model: ReaderModel, query: str, hint: str) -> QueryRows:
    """See `Reader.query_rows`."""
    if model.profile.rows == "rare":
        raise InvalidInputError(
            "this profile weighs a query's tokens by how rare they are in the passages, which a query by itself does "
            "not know; use `read`, or a profile with other rows"
        )
    return model.questions(SET).rows([model.layout.question(query, hint)], _without(model))[0]


def partial_evidence(model: ReaderModel, rows: QueryRows, passages: Sequence[Passage | str]) -> Partial:
    """See `Reader.partial`."""
    wanted = model.layout.wanted([_tokens(model, passages)])
    with model.shelf_for(SET).take(wanted) as taken:
        own = placed(rows, model.heads(SET).slots, taken.slots)
        return Partial(own.lse(taken.held.arena, taken.held.ranges).cpu().numpy())


def read_evidence_rows(
    model: ReaderModel, rows: QueryRows, passages: Sequence[Passage | str], whole: Partial | None
) -> Reading:
    """See `Reader.read_rows`."""
    started, tokens = time.perf_counter(), _tokens(model, passages)
    with model.shelf_for(SET).take(model.layout.wanted([tokens])) as taken:
        return _reading(model, "", rows, tokens, taken, started, whole)


def _tokens(model: ReaderModel, passages: Sequence[Passage | str]) -> list[Tokens]:
    return model.layout.passages(list(map(Passage.of, passages)))


def _without(model: ReaderModel) -> Question | None:
    return model.layout.question(_NOTHING) if model.profile.contrast else None


def _asked(question: Question) -> list[int]:
    return [question.ids[row] for row in question.rows]


def _reading(
    model: ReaderModel,
    query: str,
    rows: QueryRows,
    tokens: Sequence[Tokens],
    taken: Taken,
    started: float,
    whole: Partial | None = None,
) -> Reading:
    found = evidence_scores(rows, model.heads(SET).slots, taken, [key for one in tokens for key in one.keys], whole)
    read = tuple(PassageReading(one.offsets, model.layout.joined(one, found)) for one in tokens)
    return Reading(query, read, notes_of(taken, started, model, SET))


def notes_of(taken: Taken, started: float, model: ReaderModel, name: str) -> dict[str, object]:
    """What a reading took, for the trace."""
    notes: dict[str, object] = {
        "cache_hits": taken.hits,
        "cache_misses": taken.misses,
        "from_store": taken.stored,
        "milliseconds": 1e3 * (time.perf_counter() - started),
    }
    if not model.keeps(name):
        notes["read_anew"] = f"keys of the head set {name!r} are not remembered; name it in the reader's sets"
    return notes
