"""InjectionScreen: passages that give orders to the model are set aside, marked or cut, and never silently."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import ClassVar, Literal

from ctxshaper.data import Context, Passage, SetAside, Span, Written, gaps
from ctxshaper.data.spans import intersect
from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.base import Stage
from ctxshaper.stages.injection_screen.findings import Findings, Flag, flags
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Run
from ctxshaper.stages.units import Unit, units_of

# A tag or a comment, or what stands between two.
_TAGS = re.compile(r"<[^>]*>?|[^<]+")
REASON = "looks like an instruction to the model"
_DONE = {"set_aside": "set aside", "cut": "cut", "mark": "marked"}


@dataclass(frozen=True, kw_only=True)
class InjectionScreen(Stage):
    """Finds passages that carry instructions to the model (indirect prompt injection), sentence by sentence.

    Three detectors. "probe": a linear probe of the reader's activations (`InjectionProbe`), whose scores were computed
    when the passages were read: it costs a query nothing. "classifier": any sequence classifier of transformers, over
    windows of sentences. "tracker": Attention Tracker (arXiv 2411.00348): how far a passage draws the attention of a
    language model's important heads away from an instruction.

    What is found is reported: in `Context.set_aside` with score and spans, in the decisions of the trace, and as a
    warning. A detector is one layer of defence: it misses attacks, above all those that were made against it.

    Attributes:
        detector: "probe", "classifier" or "tracker".
        model: the classifier's folder or hub name; of the tracker, None for the pipeline's language model. The probe
            belongs to the reader's head profile and takes none.
        action: "set_aside": the passage leaves the context, and the rest is shaped as if it had not been there.
            "cut": only its suspicious sentences leave. "mark": nothing leaves; the trace and a warning say where.
        threshold: sentences that score more are flagged; None for the detector's own.

    Raises:
        InvalidInputError: an unknown detector or action, a classifier without a model, or a probe with one.
    """

    span_kind: ClassVar[Literal["RERANKER", "CHAIN"]] = "CHAIN"

    detector: Literal["probe", "classifier", "tracker"] = "probe"
    model: str | None = None
    action: Literal["set_aside", "mark", "cut"] = "set_aside"
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.detector not in ("probe", "classifier", "tracker") or self.action not in ("set_aside", "mark", "cut"):
            raise InvalidInputError(
                "InjectionScreen takes detector probe, classifier or tracker and action set_aside, mark or cut, but "
                f"got {self.detector!r} and {self.action!r}"
            )
        if self.detector == "classifier" and not self.model:
            raise InvalidInputError("the detector 'classifier' needs model: a folder or hub name of a classifier")
        if self.detector == "probe" and self.model:
            raise InvalidInputError("the detector 'probe' uses the pipeline's reader: give the model to the reader")
        limit = self.threshold
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Real) or not math.isfinite(limit)):
            raise InvalidInputError(f"threshold must be a finite number or None, but got {limit!r:.80}")

    def remember(self, passages: Sequence[Passage], parts: Parts) -> None:  # noqa: ARG002  # they are read below
        """Have the probe's scores kept of all that the reader reads from now on."""
        if self.detector == "probe" and hasattr(parts.reader, "screen"):
            parts.reader.screen([])

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        units = screened_units(context)
        if not units:
            return context
        found = self.findings(context.passages, units, run)
        limit = found.threshold if self.threshold is None else float(self.threshold)
        flagged = flags(found, units, limit)
        run.log.notes |= {"detector": self.detector, "threshold": limit, "units": len(units), "flagged": len(flagged)}
        if not flagged:
            return context
        self._report(context, flagged, run)
        if self.action == "mark":
            return context
        return self._without(context, flagged, limit) if self.action == "set_aside" else _cut(context, flagged)

    def findings(self, passages: Sequence[Passage], units: Sequence[Unit], run: Run) -> Findings:
        """The detector's scores of the units."""
        if self.detector == "probe":
            from ctxshaper.stages.injection_screen.probe import probed

            return probed(passages, units, run)
        if self.detector == "classifier":
            from ctxshaper.stages.injection_screen.classifier import classified

            return classified(passages, units, str(self.model))
        from ctxshaper.models.language_model import LanguageModel
        from ctxshaper.stages.injection_screen.tracker import tracked

        model = run.parts.language_model if self.model is None else LanguageModel(self.model)
        return tracked(passages, units, model)

    def _report(self, context: Context, flagged: dict[int, Flag], run: Run) -> None:
        for index, flag in flagged.items():
            passage = context.passages[index]
            for unit, score in zip(flag.units, flag.scores, strict=True):
                run.log.decide(passage, unit.span, kept=self.action == "mark", reason=REASON, score=score)
            if self.action == "set_aside" or (flag.title and self.action == "cut"):
                reason = "stands in a passage that carries instructions to the model"
                run.log.drop(passage, gaps(passage.spans, flag.spans), reason)
        ranks = ", ".join(str(context.passages[index].rank) for index in flagged)
        run.log.warnings.append(
            f"{len(flagged)} of {len(context.passages)} passages {_DONE[self.action]}: they carry what looks like "
            f"instructions to the model (rank {ranks})"
        )

    def _without(self, context: Context, flagged: dict[int, Flag], limit: float) -> Context:
        aside = [*context.set_aside]
        for index, flag in flagged.items():
            where = " and ".join(
                ["its title"] * flag.title + [f"{len(flag.units)} of its sentences"] * bool(flag.units)
            )
            reason = f"carries instructions to the model in {where}: score {flag.worst:.2f}, threshold {limit:.2f}"
            aside.append(SetAside(context.passages[index], reason, self.name, flag.worst, flag.spans))
        ranks = {one.passage.rank for one in aside}
        given = [passage for passage in context.given or () if passage.rank not in ranks]
        # What the retriever's list would have taken without them: a share of the budget is a share of that.
        left = context.count(text) if (text := context.rendering.render(given)) else 0
        return replace(
            context,
            passages=tuple(passage for index, passage in enumerate(context.passages) if index not in flagged),
            set_aside=tuple(aside),
            tokens_aside=max(0, context.tokens_in - left),
        )


def screened_units(context: Context) -> list[Unit]:
    """The sentences that are judged: of HTML those of the markup itself, where comments and attributes speak too."""
    from ctxshaper.text.segments import sentences

    html = {index: passage for index, passage in enumerate(context.passages) if passage.format == "html"}
    found = [unit for unit in units_of(context, "sentence") if unit.passage not in html]
    for index, passage in html.items():
        tags = [Span(*match.span()) for match in _TAGS.finditer(passage.source)]
        parts = intersect(intersect(sentences(passage.source), tags), passage.spans)
        found += [Unit(index, part) for part in parts if passage.source[part.start : part.end].strip()]
    return found


def _cut(context: Context, flagged: dict[int, Flag]) -> Context:
    left = []
    for index, passage in enumerate(context.passages):
        flag = flagged.get(index)
        if flag is None:
            left.append(passage)
        elif not flag.title:  # a title cannot be cut out of its passage
            written = {unit.written for unit in flag.units}
            stays = [place for place, piece in enumerate(passage.pieces) if isinstance(piece, Written)]
            kept = passage.keep(gaps(passage.spans, flag.spans), [place for place in stays if place not in written])
            if kept.text.strip():
                left.append(kept)
    return context.with_passages(left)
