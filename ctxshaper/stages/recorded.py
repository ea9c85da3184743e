"""What a stage's span says: what came in and what goes out, for viewers as a reranker's documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ctxshaper import tracing
from ctxshaper.data import Context, Decision, Passage
from ctxshaper.stages.run import Log


def record(span: tracing.TraceSpan, given: Context, shaped: Context, log: Log, *, documents: bool) -> None:
    """Set what a stage was given and what it gives.

    Args:
        span: the stage's.
        given: its input.
        shaped: its result.
        log: what it reported.
        documents: whether passages are listed: coming in with the retriever's scores, going out with that of the best
            unit that was kept of each.
    """
    if not span.recording:
        return
    kept = sum(decision.kept for decision in log.decisions)
    span.set(
        passages=len(given.passages),
        kept=len(shaped.passages),
        tokens_in=given.tokens,
        tokens_out=shaped.tokens,
        units_kept=kept,
        units_dropped=len(log.decisions) - kept,
        warnings=log.warnings or None,
    )
    if documents:
        span.say({"reranker.query": given.query})
        span.put(tracing.documents("input", _rows(given.passages, {p.rank: p.score for p in given.passages})))
        span.put(tracing.documents("output", _rows(shaped.passages, _best(log.decisions))))


def _rows(
    passages: Iterable[Passage], scores: Mapping[int | None, float | None]
) -> Iterator[tuple[str, float | None, str | None]]:
    texts = tracing.content_recorded()
    return ((p.id or str(p.rank), scores.get(p.rank), p.text if texts else None) for p in passages)


def _best(decisions: Iterable[Decision]) -> dict[int | None, float | None]:
    best: dict[int | None, float | None] = {}
    for decision in decisions:
        if decision.kept and decision.score is not None:
            known = best.get(decision.passage)
            best[decision.passage] = decision.score if known is None else max(known, decision.score)
    return best
