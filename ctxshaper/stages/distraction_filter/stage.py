"""DistractionFilter: passages that mislead, told apart from those that are merely irrelevant (arXiv 2505.06914)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctxshaper.data import Context, Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.stages.base import Stage
from ctxshaper.stages.run import Log, Run

if TYPE_CHECKING:
    from ctxshaper.stages.distraction_filter.abstention import Abstention


@dataclass(frozen=True, kw_only=True)
class DistractionFilter(Stage):
    """Drops or demotes passages that mislead: highly distracting *and* hardly relevant.

    The distracting effect of a passage is `DE = 1 - P(abstain | query, passage)` of a local language model (Amiraz et
    al., arXiv 2505.06914, section 3; see `Abstention`); above 0.8 the paper calls a passage hard. The paper measures
    it on irrelevant passages only, and rightly so: a passage that answers the question has a high DE too. Hence the
    second condition. Relevance is the attention that the passage's tokens receive from the question's at the reader's
    relevance heads (mean per token), as a share of the most relevant passage's. DE costs a forward pass, so it is
    measured only where relevance is low, outside the guard.

    A model that ignores the instruction to abstain finds everything distracting. So `Abstention.check` measures
    unrelated passages first, once per model; the embedded 135M model fails it, and by default nothing is then dropped.

    Attributes:
        effect: passages with a DE above this are distracting, in [0, 1].
        relevance: passages below this share of the best passage's relevance are hardly relevant, in [0, 1].
        keep: the guard: so many of the most relevant passages stay where they are, whatever their scores; the more
            relevant half always does.
        action: "drop", or "demote" to the end, behind all others.
        when_ignored: what to do when the model ignores the instruction: "pass" warns and changes nothing, "raise"
            refuses, "use" warns and goes by its DE all the same (which leaves relevance to decide).
    """

    effect: float = 0.8
    relevance: float = 0.1
    keep: int = 3
    action: Literal["drop", "demote"] = "drop"
    when_ignored: Literal["pass", "raise", "use"] = "pass"

    def __post_init__(self) -> None:
        if not (0 <= self.effect <= 1 and 0 <= self.relevance <= 1):
            raise InvalidInputError(
                f"effect and relevance must lie in [0, 1], but got effect={self.effect}, relevance={self.relevance}"
            )
        if self.keep < 1:
            raise InvalidInputError(f"keep must be at least 1 passage, but got {self.keep}")
        if self.action not in ("drop", "demote") or self.when_ignored not in ("pass", "raise", "use"):
            raise InvalidInputError(
                "DistractionFilter takes action drop or demote and when_ignored pass, raise or use, "
                f"but got {self.action!r} and {self.when_ignored!r}"
            )

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        from ctxshaper.stages.distraction_filter.abstention import Abstention

        passages, log = context.passages, run.log
        if len(passages) <= self.keep:
            log.notes["guard"] = f"{len(passages)} passages, and {self.keep} are kept anyway: nothing was measured"
            return context
        abstention = Abstention(run.parts.language_model)
        if self._ignored(abstention, log) and self.when_ignored == "pass":
            return context
        relevance = _relevance(context.query, passages, run)
        # A share of the best passage's relevance says little where one passage stands out: being among the better half
        # says the rest.
        guard = max(self.keep, len(passages) // 2)
        guarded = set(sorted(range(len(passages)), key=lambda i: -relevance[i])[:guard])
        suspects = [i for i in range(len(passages)) if i not in guarded and relevance[i] < self.relevance]
        effects = dict(
            zip(suspects, abstention.distracting(context.query, [passages[i] for i in suspects]).tolist(), strict=True)
        )
        misleading = {i for i, effect in effects.items() if effect > self.effect}
        log.notes["passages"] = [
            {
                "rank": passage.rank,
                "relevance": relevance[i],
                "distracting_effect": effects.get(i),
                "guarded": i in guarded,
                "misleads": i in misleading,
            }
            for i, passage in enumerate(passages)
        ]
        stay = [p for i, p in enumerate(passages) if i not in misleading]
        if self.action == "demote":
            return context.with_passages([*stay, *(passages[i] for i in sorted(misleading))])
        for i in sorted(misleading):
            log.drop(passages[i], passages[i].spans, f"misleads: distracting effect {effects[i]:.2f}", relevance[i])
        return context.with_passages(stay)

    def _ignored(self, abstention: Abstention, log: Log) -> bool:
        check = abstention.check
        log.notes["check"] = {"unrelated": check.unrelated, "answering": check.answering, "ordered": check.ordered}
        if check.follows:
            return False
        message = (
            f"{abstention.model.name} ignores the instruction to abstain (mean distracting effect "
            f"{check.unrelated:.2f} on unrelated passages, where 0 is right), so its distracting effect says nothing"
        )
        if self.when_ignored == "raise":
            raise ModelError(f"{message}; pass language_model=LanguageModel(...) with a larger instruction-tuned model")
        outcome = "nothing is dropped" if self.when_ignored == "pass" else "relevance alone decides"
        log.notes["ignored"] = f"{message}; {outcome}"
        log.warnings.append(f"{message}; {outcome}. Pass language_model=LanguageModel(...) with a larger model")
        return True


def _relevance(query: str, passages: Sequence[Passage], run: Run) -> list[float]:
    """Of each passage the mean attention per kept token, as a share of the most relevant passage's."""
    scores = []
    for passage, read in zip(passages, run.read(query, passages).passages, strict=True):
        sizes = read.span_tokens(passage.spans)
        # Attention minus that of a content-free query may fall below 0.
        scores.append(max(0.0, float((read.span_scores(passage.spans) * sizes).sum() / max(1, int(sizes.sum())))))
    best = max(scores)
    return [score / best if best > 0 else 1.0 for score in scores]
