"""Records: what a shaped document carries under `metadata["ctxshaper"]`, written, read and checked here alone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxshaper.connectors.client import Outcome
from ctxshaper.connectors.origins import MOST_SPANS, Origin, follow, placed_origins, whole, within
from ctxshaper.data import ELLIPSIS, Context, Passage, Span, json_safe, merge_spans

KEY = "ctxshaper"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """How a document's text arises from its source, read from its metadata and found consistent.

    Attributes:
        origins: of the text, in order.
        source_length: characters of the source.
        rank: of the document in the retriever's list; None for a text that is its own source.
        dropped: what was dropped on the way, as `results` describes it.
    """

    origins: tuple[Origin, ...]
    source_length: int
    rank: int | None = None
    dropped: tuple[dict[str, Any], ...] = ()

    @property
    def own(self) -> bool:
        """Whether the text is its own source."""
        return self.rank is None


def read(data: Any, text: str) -> Record:
    """The record of a text; metadata is not trusted.

    A record is believed if it is about this very text, tiles it in order and stays inside of the source that it names;
    any other is ignored with a line in the log, and the text counts as its own source. What a believed record says of
    a source that is not at hand is as true as the store that the document came from.

    Args:
        data: what stands under `metadata["ctxshaper"]`, if anything does.
        text: the document's.
    """
    if data is not None:
        try:
            return _checked(data, text)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            _log.warning("what stands under metadata[%r] of a document is not its record: %.200r", KEY, error)
    return Record(whole(len(text)), len(text))


def _checked(data: Mapping[str, Any], text: str) -> Record:
    length, rank = data["source_length"], data["rank"]
    if type(length) is not int or type(rank) is not int or length < 0 or rank < 0:
        raise ValueError("source_length and rank must be whole numbers from 0")
    if data["text_digest"] != _digest(text):
        raise ValueError("it is about another text")
    origins, reached = [], 0
    for piece in data["pieces"]:
        at, spans = Span(piece["start"], piece["end"]), _spans(piece["spans"], length)
        if at.start < reached or at.end > len(text) or not len(at):
            raise ValueError("pieces must be sorted, disjoint and inside of the text")
        if piece["generated"] is not True and (len(spans) != 1 or len(spans[0]) != len(at)):
            raise ValueError("a piece that was copied is as long as what it was copied from")
        origins.append(Origin(at.start, at.end, spans, piece["generated"] is True))
        reached = at.end
    return Record(tuple(origins), length, rank, tuple(_drop(entry, length) for entry in data["dropped"]))


def _spans(pairs: Any, length: int) -> tuple[Span, ...]:
    if not isinstance(pairs, Sequence) or len(pairs) > MOST_SPANS:
        raise ValueError(f"spans are a list of at most {MOST_SPANS}")
    spans = tuple(Span(start, end) for start, end in pairs)
    if spans != merge_spans(spans) or (spans and spans[-1].end > length):
        raise ValueError("spans must be sorted, disjoint and inside of the source")
    return spans


def _drop(entry: Mapping[str, Any], length: int) -> dict[str, Any]:
    (span,), score = _spans([(entry["start"], entry["end"])], length), entry["score"]
    known = score is None or (type(score) in (int, float) and abs(score) < 1e300)
    if not known or not isinstance(entry["reason"], str) or not isinstance(entry["stage"], str):
        raise ValueError("a dropped range has a reason, a stage, and a finite score or none")
    return _dropped(span, entry["reason"], score, entry["stage"])


def _dropped(span: Span, reason: str, score: float | None, stage: str) -> dict[str, Any]:
    return {"start": span.start, "end": span.end, "reason": reason, "score": score, "stage": stage}


def _digest(text: str) -> str:
    # It tells a text that was changed since, not one that was forged; lone surrogates have no UTF-8.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Result:
    """What one document becomes.

    Attributes:
        rank: place of its original in the list that was given.
        text: what it now says.
        score: of the passage, if it has one.
        record: how the text arises from its source; plain JSON data.
    """

    rank: int
    text: str
    score: float | None
    record: dict[str, Any]


def results(passages: Sequence[Passage], outcome: Outcome, earlier: Sequence[Record]) -> list[Result]:
    """The documents that the generator reads, best place first; all as they were where the input is passed on.

    Args:
        passages: as retrieved.
        outcome: of the request.
        earlier: for each, the record that its document came with. Ranges below count in the first source.

    Returns:
        A result's record holds `pieces`, in the order of the text: `start` and `end` in the text, `spans` of the source
        and whether the piece was `generated`: its spans then support it, otherwise the one span is what it repeats;
        `source_length` in characters; `text_digest` of the text that it is about; `rank` in the retriever's list;
        `dropped`: ranges with reason, score and stage; `warnings` and `set_aside` (rank, reason, stage, score,
        spans) of the whole request; `shadow`: what would have been kept and dropped, and at which place (null:
        nowhere); `error`.
    """
    context = outcome.context
    dropped = _by_rank(context, earlier) if context else {}
    ellipsis = context.rendering.ellipsis if context else ELLIPSIS
    ranked = enumerate(passages) if outcome.applied is None else ((p.rank or 0, p) for p in outcome.applied.passages)
    made = []
    for rank, passage in ranked:
        placed, before = passage.placed(ellipsis), earlier[rank]
        text = "".join(piece.gap + piece.text for piece in placed)
        if outcome.applied is not None and not text.strip():
            continue  # it would leave no trace in the rendered text either
        origins = placed_origins(placed)
        if not before.own:
            origins = tuple(follow(origins, before.origins))
        now = dropped.get(rank, [])
        record: dict[str, Any] = {
            "pieces": [
                {"start": o.start, "end": o.end, "spans": _pairs(o.spans), "generated": o.generated} for o in origins
            ],
            "source_length": before.source_length,
            "text_digest": _digest(text),
            "rank": rank,
            "dropped": [*before.dropped, *(() if outcome.shadow else now)],
            "warnings": outcome.warnings,
            "set_aside": outcome.set_aside,
        }
        if outcome.shadow and context:
            record["shadow"] = _shadow(context, rank, before, now)
        if outcome.error:
            record["error"] = outcome.error
        made.append(Result(rank, text, passage.score, record))
    return made


def _by_rank(context: Context, earlier: Sequence[Record]) -> dict[int, list[dict[str, Any]]]:
    """What each document lost in this request."""
    lost: dict[int, list[dict[str, Any]]] = {}
    for stage in context.trace.stages:
        for decision in stage.dropped:
            before, span = earlier[decision.passage], decision.span
            # Of words that were written, the range around all their support: one entry for each unit stays one.
            around = [span]
            if not before.own:
                found = [o.spans for o in within(before.origins, span.start, span.end) if o.spans]
                around = [Span(spans[0].start, spans[-1].end) for spans in found]
            lost.setdefault(decision.passage, []).extend(
                _dropped(s, decision.reason, json_safe(decision.score), stage.stage) for s in around
            )
    return lost


def _shadow(context: Context, rank: int, before: Record, dropped: list[dict[str, Any]]) -> dict[str, Any]:
    places = [(place, passage) for place, passage in enumerate(context.passages) if passage.rank == rank]
    spans = (span for _, passage in places for span in passage.spans)
    kept = (s for span in spans for origin in within(before.origins, span.start, span.end) for s in origin.spans)
    return {"kept": _pairs(merge_spans(kept)), "position": places[0][0] if places else None, "dropped": dropped}


def _pairs(spans: Iterable[Span]) -> list[list[int]]:
    return [[span.start, span.end] for span in spans]
