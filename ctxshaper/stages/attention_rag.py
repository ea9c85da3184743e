"""AttentionRAG: what the answer's next word attends to (arXiv 2503.10720)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.generators import Generator
from ctxshaper.reading.focal import FocalReader
from ctxshaper.reading.reader import Reader
from ctxshaper.reading.reading import PassageReading
from ctxshaper.stages.base import Log, Stage
from ctxshaper.stages.hint import GENERIC, Hint, Way, hint_of
from ctxshaper.stages.selection import Candidate, select, units_of

# The paper's k of a chunk for LongBench; used where neither k nor a hard budget says how much to keep.
_K = 12
_TRACED = 50


@dataclass(frozen=True, kw_only=True)
class AttentionRAG(Stage):
    """Keeps the sentences that the answer's next word looks at (Fang et al., arXiv 2503.10720, algorithm 1).

    The rule: the question is turned into a hint, an answer that is cut off right before its key word; the context is
    cut into chunks; behind each chunk a language model completes the hint by one token, the focal token. A chunk whose
    focal token is "none" is dropped. The attention from the focal token to the chunk's tokens is summed over all
    layers (mean over heads), and the sentences that hold the k best tokens of a chunk are kept, in their order.

    `reading="chunks"` is that rule. By default passages are read by themselves and remembered, as everywhere else
    here, and the focal token is one more row of the query, at the place behind the hint: no token is decoded. The head
    profile's heads count instead of all, and a token's score is weighted by the mean of its passage. One softmax over
    all passages takes the gate's place: the k best tokens per chunk are chosen among all chunks together, and a
    passage that wins none drops out.

    A budget takes the place of k: then k is the largest that fits. Where the gate fires for every chunk it is
    ignored, so that a context is never emptied; the trace counts how often it fired.

    Attributes:
        k: how many tokens of a chunk promote their sentences; None means as many as the budget allows, and with an
            adaptive budget the paper's 12.
        chunk: m, the tokens of a chunk.
        hint: who begins the answer: "rule" (no language model), "generator" (shown a few examples, as in the paper;
            the rule where it fails), or "generic" (the same words for every question).
        reading: "independent" (passage memories) or "chunks" (the paper's rule: slow, through all layers).
        reader: reads; a pipeline's own if None.
        generator: writes the hint; a pipeline's own if None.
        focal: reads chunks; a pipeline's own if None.
    """

    needs: ClassVar[tuple[str, ...]] = ("reader", "generator", "focal")

    k: int | None = None
    chunk: int = 300
    hint: Way = "rule"
    reading: Literal["independent", "chunks"] = "independent"
    reader: Reader | None = None
    generator: Generator | None = None
    focal: FocalReader | None = None

    def __post_init__(self) -> None:
        if (self.k is not None and self.k < 1) or self.chunk < 1:
            raise InvalidInputError(
                f"AttentionRAG needs k >= 1 and chunk >= 1 tokens, but got k={self.k}, chunk={self.chunk}; leave k out "
                "to use the budget"
            )
        if self.hint not in get_args(Way) or self.reading not in ("independent", "chunks"):
            raise InvalidInputError(
                "AttentionRAG takes hint generator, rule or generic and reading independent or chunks, but got "
                f"{self.hint!r} and {self.reading!r}"
            )

    def shape(self, context: Context, log: Log) -> Context:
        """Apply the rule of the class."""
        k = _K if self.k is None and context.budget.adaptive else self.k
        if k is None and (context.limit is None or context.tokens <= context.limit):
            log.notes["fits_already"] = True
            return context
        units = [units_of(passage, "sentence") for passage in context.passages]
        if not any(units):
            return context.with_passages(())
        hint = self._hint(context.query)
        log.notes["hint"] = asdict(hint)
        score = self._by_chunks if self.reading == "chunks" else self._by_memories
        tokens, least = score(context, units, hint.text, k, log)
        candidates = []
        for index, (passage, spans, own) in enumerate(zip(context.passages, units, tokens, strict=True)):
            for span, best in zip(spans, _best(own, spans), strict=True):
                if best >= least:
                    candidates.append(Candidate(index, span, float(best)))
                else:
                    gated = best == -np.inf
                    reason = "its chunk is of no use" if gated else "holds none of the k most attended tokens"
                    log.drop(passage, [span], reason, None if gated else float(best))
        if not candidates:
            return context
        log.notes["units"] = sum(map(len, units))
        return select(context, candidates, log, context.limit)

    def _hint(self, query: str) -> Hint:
        if self.hint == "generic":
            return Hint(GENERIC, "generic")
        if self.hint == "rule":
            return hint_of(query)
        if self.generator is None:
            from ctxshaper.generators import LocalGenerator

            return hint_of(query, LocalGenerator())
        return hint_of(query, self.generator)

    def _by_memories(
        self, context: Context, units: Sequence[Sequence[Span]], hint: str, k: int | None, log: Log
    ) -> tuple[list[PassageReading], float]:
        """Token scores from memories, and the score of the last token that is among the best."""
        reading = (self.reader or Reader()).read(context.query, context.passages, hint=hint)
        log.notes["reading"] = dict(reading.notes)
        weighted, inside = [], []
        for read, spans in zip(reading.passages, units, strict=True):
            # Attention minus that of a content-free query may fall below 0.
            scores = np.maximum(read.scores, 0.0)
            own = read.tokens_of(spans) >= 0
            weighted.append(PassageReading(read.offsets, scores * (scores[own].mean() if own.any() else 0)))
            inside.append(weighted[-1].scores[own])
        flat = np.sort(np.concatenate(inside))[::-1]
        if k is None or not len(flat):
            return weighted, 0.0
        chunks = -(-len(flat) // self.chunk)
        return weighted, float(flat[min(k * chunks, len(flat)) - 1])

    def _by_chunks(
        self, context: Context, units: Sequence[Sequence[Span]], hint: str, k: int | None, log: Log
    ) -> tuple[list[PassageReading], float]:
        """The same by the paper's rule, as minus a token's rank in its chunk.

        With k tokens of every chunk, for growing k, sentences enter in just this order; the attention, which is less
        than 1 when divided by more than the layers, decides between chunks.
        """
        reading = (self.focal or FocalReader()).read(context.query, hint, context.passages, self.chunk)
        fired = [focal.none for focal in reading.focal]
        log.notes["gate"] = {"fired": sum(fired), "of": len(fired), "ignored": all(fired)}
        log.notes["focal"] = [focal.token for focal in reading.focal[:_TRACED]]
        scores = np.concatenate([read.scores for read in reading.passages])
        chunks = np.concatenate(reading.chunks)
        inside = np.concatenate([r.tokens_of(u) >= 0 for r, u in zip(reading.passages, units, strict=True)])
        places = np.full(len(scores), -np.inf)
        for number, useless in enumerate(fired):
            own = np.flatnonzero((chunks == number) & inside)
            if useless and not all(fired):
                continue
            best = own[np.argsort(-scores[own], kind="stable")]
            places[best] = scores[best] / (reading.layers + 1) - np.arange(len(best))
        parts = np.split(places, np.cumsum([len(r.scores) for r in reading.passages])[:-1])
        ranked = [PassageReading(r.offsets, own) for r, own in zip(reading.passages, parts, strict=True)]
        return ranked, float(1 - (k or len(scores)))


def _best(reading: PassageReading, spans: Sequence[Span]) -> NDArray[np.float64]:
    """[len(spans)] the highest score of each span's tokens; minus infinity where it has none."""
    index = reading.tokens_of(spans)
    best = np.full(len(spans), -np.inf)
    np.maximum.at(best, index[index >= 0], reading.scores[index >= 0].astype(np.float64))
    return best
