"""NoiseFilter: what the model's answer does not depend on is noise (context denoising, arXiv 2510.05862)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctxshaper.data import Context
from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.base import ScoringStage
from ctxshaper.stages.run import Log, Run
from ctxshaper.stages.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ctxshaper.models.language_model import LanguageModel
    from ctxshaper.reading.reading import PassageReading

_TASK = "Answer the question from the text.\n\nText:\n"
_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class NoiseFilter(ScoringStage):
    """Keeps the units on which a language model's answer depends most, by the gradient of the answer's loss.

    The rule (Revisiting Long-context Modeling from Context Denoising Perspective, arXiv 2510.05862, the approximation
    of its integrated-gradient score that its training uses): g of a token is the L2 norm of the loss's gradient with
    respect to the token's embedding; tokens below the mean g are noise. The paper takes the loss on the right answer,
    which nobody has when a question is asked: here it is the model's own answer, written greedily before, so a model
    that answers wrongly calls noise what it should have read. A unit's score is the logarithm of its tokens' mean g
    over the mean of its chunk; with an adaptive budget, units above it are kept.

    It costs one reading of the text through the whole model, a pass back (twice that), and the answer's tokens: some
    four times what a generator takes to read the same text, each time. Nothing is remembered.

    Attributes:
        chunk: tokens of the passages that are read together, with an answer of their own; memory grows with it.
        answer: the most tokens of the model's answer.
    """

    chunk: int = 2048
    answer: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunk < 16 or self.answer < 1:
            raise InvalidInputError(
                f"NoiseFilter takes chunk >= 16 and answer >= 1 tokens, but got {self.chunk} and {self.answer}"
            )

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """Logarithm of the units' mean gradient over that of their chunk."""
        import numpy as np

        from ctxshaper.reading.unit_scores import unit_scores

        owners = np.array([unit.passage for unit in units], dtype=np.int64)
        readings = self._read(context, run.parts.language_model)
        means, _ = unit_scores(readings, owners, [unit.span for unit in units])
        scores: list[float] = np.log(np.maximum(means, _FLOOR)).tolist()
        return scores

    def likely(self, units: Sequence[Unit], scores: Sequence[float], log: Log) -> Sequence[int]:  # noqa: ARG002
        """The units whose tokens get more than the mean: the paper's rule."""
        return [place for place, score in enumerate(scores) if score >= 0]

    def _read(self, context: Context, model: LanguageModel) -> list[PassageReading]:
        """Of each passage its tokens, and each one's gradient over the mean of its chunk."""
        import numpy as np

        from ctxshaper.reading.reading import PassageReading

        encoder = model.encoder
        ids: list[int] = []
        places: list[tuple[int, NDArray[np.int64]]] = []
        for passage in context.passages:
            ids += encoder.data(f"\n\n{passage.title}\n" if passage.title else "\n\n")[0]
            own, offsets = encoder.data(passage.source)
            places.append((len(ids), offsets))
            ids += own
        before = [*model.chat.opening, *encoder.data(_TASK)[0]]
        after = [*encoder.data(f"\n\nQuestion: {context.query}")[0], *model.chat.closing]
        room = model.context_window - len(before) - len(after) - self.answer
        if room < min(len(ids), self.chunk):
            raise InvalidInputError(
                f"question and a chunk of {self.chunk} tokens need more than the {model.context_window} tokens that "
                f"{model.name} sees at once; use smaller chunks or a shorter question"
            )
        found = [np.zeros(0, np.float32)]
        for start in range(0, len(ids), self.chunk):
            part = ids[start : start + self.chunk]
            gradients = model.answer_gradients([*before, *part, *after], self.answer)
            own_part = gradients[len(before) : len(before) + len(part)]
            found.append(own_part / max(float(own_part.mean()), _FLOOR))
        scores = np.concatenate(found)
        return [PassageReading(offsets, scores[at : at + len(offsets)]) for at, offsets in places]
