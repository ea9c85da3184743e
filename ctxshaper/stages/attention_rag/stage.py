"""AttentionRAG: what the answer's next word attends to (arXiv 2503.10720)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ctxshaper.data import Context, merge_spans
from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.stages.attention_rag.hint import GENERIC, Hint, Method, by_rule, hint_prompt, read_hint
from ctxshaper.stages.base import Steps, WritingStage
from ctxshaper.stages.run import Run
from ctxshaper.stages.trimming import select_or_trim
from ctxshaper.stages.units import Unit, by_passage, units_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctxshaper.reading.reading import PassageReading

# The paper's k of a chunk for LongBench; used where neither k nor a hard budget says how much to keep.
_K = 12
_TRACED = 50


@dataclass(frozen=True, kw_only=True)
class AttentionRAG(WritingStage):
    """Keeps the sentences that the answer's next word looks at (Fang et al., arXiv 2503.10720, algorithm 1).

    The rule: the question is turned into a hint, an answer that is cut off right before its key word; the context is
    cut into chunks; behind each chunk a language model completes the hint by one token, the focal token. A chunk whose
    focal token is "none" is dropped. The attention from the focal token to the chunk's tokens is summed over all
    layers (mean over heads), and the sentences that hold the k best tokens of a chunk are kept, in their order.

    `reading="chunks"` is that rule. By default passages are read by themselves and remembered, as everywhere else
    here, and the question's own tokens look. (The focal token as one more row of the query, at the place behind a hint,
    kept more on HotpotQA and less on nq20_hard and MuSiQue: no more in the mean, so it went.) The head profile's heads
    count instead of all, and a token's score is weighted by the mean of its passage.
    One softmax over all passages takes the gate's place: the k best tokens per chunk are chosen among all chunks
    together, and a passage that wins none drops out.

    A budget takes the place of k: then k is the largest that fits. Where the gate fires for every chunk it is
    ignored, so that a context is never emptied; the trace counts how often it fired.

    Attributes:
        k: how many tokens of a chunk promote their sentences; None means as many as the budget allows, and with an
            adaptive budget the paper's 12.
        chunk: m, the tokens of a chunk.
        hint: of the reading by chunks, who begins the answer: "rule" (no language model), "generator" (shown a few
            examples, as in the paper; the rule where it fails), or "generic" (the same words for every question).
        reading: "independent" (passage memories) or "chunks" (the paper's rule: slow, through all layers).
    """

    k: int | None = None
    chunk: int = 300
    hint: Method = "rule"
    reading: Literal["independent", "chunks"] = "independent"

    def __post_init__(self) -> None:
        if (self.k is not None and self.k < 1) or self.chunk < 1:
            raise InvalidInputError(
                f"AttentionRAG needs k >= 1 and chunk >= 1 tokens, but got k={self.k}, chunk={self.chunk}; leave k out "
                "to use the budget"
            )
        if self.hint not in get_args(Method) or self.reading not in ("independent", "chunks"):
            raise InvalidInputError(
                "AttentionRAG takes hint generator, rule or generic and reading independent or chunks, but got "
                f"{self.hint!r} and {self.reading!r}"
            )
        if self.reading == "independent" and self.hint != "rule":
            raise InvalidInputError(
                f"hint={self.hint!r} belongs to reading='chunks'; the independent reading takes none"
            )

    def steps(self, context: Context, run: Run) -> Steps:
        """Apply the rule of the class."""
        log = run.log
        k = _K if self.k is None and context.budget.adaptive else self.k
        if k is None and (context.limit is None or context.tokens <= context.limit):
            log.notes["fits_already"] = True
            return context
        units = units_of(context, "sentence")
        if not units:
            return context.with_passages(())
        if self.reading == "independent":
            tokens, least = self._by_memories(context, units, k, run)
        else:
            if self.hint == "generator":
                try:
                    (answer,) = yield [hint_prompt(context.query)]
                    hint = read_hint(context.query, answer)
                except GeneratorError as error:
                    hint = by_rule(context.query, f"the generator failed: {error}")
            else:
                hint = Hint(GENERIC, "generic") if self.hint == "generic" else by_rule(context.query)
            log.notes["hint"] = asdict(hint)
            tokens, least = self._by_chunks(context, units, hint.text, k, run)
        best = _best(tokens, units)
        chosen = [place for place, value in enumerate(best) if value >= least]
        if not chosen:
            return context
        for place, value in enumerate(best):
            if value < least:
                gated = value == float("-inf")
                reason = "its chunk is of no use" if gated else "holds none of the k most attended tokens"
                unit = units[place]
                log.drop(context.passages[unit.passage], [unit.span], reason, None if gated else value)
        log.notes["units"] = len(units)
        taken = [units[place] for place in chosen]
        scores = [best[place] for place in chosen]
        return select_or_trim(context, taken, scores, log, context.limit, lambda parts: _best(tokens, parts))

    def _by_memories(
        self, context: Context, units: Sequence[Unit], k: int | None, run: Run
    ) -> tuple[list[PassageReading], float]:
        """Token scores from memories, and the score of the last token that is among the best."""
        import numpy as np

        from ctxshaper.reading.reading import PassageReading

        reading = run.read(context.query, context.passages)
        weighted, inside = [], []
        for own, read in zip(_inside(reading.passages, units), reading.passages, strict=True):
            # Attention minus that of a content-free query may fall below 0.
            scores = np.maximum(read.scores, 0.0)
            weighted.append(PassageReading(read.offsets, scores * (scores[own].mean() if own.any() else 0)))
            inside.append(weighted[-1].scores[own])
        flat = np.sort(np.concatenate(inside))[::-1]
        if k is None or not len(flat):
            return weighted, 0.0
        chunks = -(-len(flat) // self.chunk)
        return weighted, float(flat[min(k * chunks, len(flat)) - 1])

    def _by_chunks(
        self, context: Context, units: Sequence[Unit], hint: str, k: int | None, run: Run
    ) -> tuple[list[PassageReading], float]:
        """The same by the paper's rule, as minus a token's rank in its chunk.

        With k tokens of every chunk, for growing k, sentences enter in just this order; the attention, which is less
        than 1 when divided by more than the layers, decides between chunks.
        """
        import numpy as np

        from ctxshaper.reading.reading import PassageReading
        from ctxshaper.stages.attention_rag.focal import FocalReader

        focal = FocalReader(run.parts.language_model)
        reading = focal.read(context.query, hint, context.passages, self.chunk)
        fired = [word.none for word in reading.focal]
        run.log.notes["gate"] = {"fired": sum(fired), "of": len(fired), "ignored": all(fired)}
        run.log.notes["focal"] = [word.token for word in reading.focal[:_TRACED]]
        scores = np.concatenate([read.scores for read in reading.passages])
        chunks = np.concatenate(reading.chunks)
        inside = np.concatenate(_inside(reading.passages, units))
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


def _inside(readings: Sequence[PassageReading], units: Sequence[Unit]) -> list[NDArray[np.bool_]]:
    """By passage, [n] which of its tokens belong to any of its units."""
    places = by_passage(units)
    return [
        read.tokens_of(merge_spans(units[place].span for place in places.get(index, ()))) >= 0
        for index, read in enumerate(readings)
    ]


def _best(readings: Sequence[PassageReading], units: Sequence[Unit]) -> list[float]:
    """The highest score of each unit's tokens; minus infinity where it has none."""
    import numpy as np

    best = np.full(len(units), -np.inf)
    for passage, places in by_passage(units).items():
        read = readings[passage]
        # Units of the source are disjoint; the support of written pieces may overlap, and is asked one by one.
        written = any(units[place].written is not None for place in places)
        for group in [[place] for place in places] if written else [places]:
            index = read.tokens_of([units[place].span for place in group])
            own = np.array(group)[index[index >= 0]]
            np.maximum.at(best, own, read.scores[index >= 0].astype(np.float64))
    values: list[float] = best.tolist()
    return values
