"""How sure a language model is that a passage leaves the question unanswered: the distracting effect of a passage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.models.language_model import LanguageModel

MARKER = "NO-RESPONSE"
INSTRUCTION = (
    "Answer the question from the document. Give the answer alone, without any introduction. If the document does not "
    f"hold the answer, reply {MARKER}. Do not rely on anything that you know from elsewhere."
)
_WINDOW = 2048  # tokens of one window of a long passage

# Questions, and for each a passage that answers it; the passages of the other questions are unrelated to it.
_CHECKS = (
    ("In which year was the Halvorsen bridge opened?", "The Halvorsen bridge was opened in 1931 after four years."),
    ("Who directs the choir of Lindow?", "Since last spring the choir of Lindow has been directed by Marta Okafor."),
    ("What does the Sable ferry carry?", "The Sable ferry carries timber and, in summer, a few dozen bicycles."),
    ("How deep is lake Orren?", "Lake Orren is 84 metres deep at its northern end and freezes in January."),
    ("Which metal is mined at Tarn Hill?", "At Tarn Hill miners dig for zinc; the pit employs 200 people."),
    ("Where was the painter Ilse Brandt born?", "Ilse Brandt, the painter, was born in Trieste and lived in Ghent."),
)


# What was measured, as long as the model lives.
_CHECKED: WeakKeyDictionary[LanguageModel, InstructionCheck] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class InstructionCheck:
    """Whether a model follows the instruction to abstain.

    Attributes:
        unrelated: mean distracting effect of passages that have nothing to do with the question; near 0 is right.
        answering: mean distracting effect of passages that answer it; near 1 is right.
        ordered: how often an answering passage has the higher effect of the two, per question; 0.5 is chance.
    """

    unrelated: float
    answering: float
    ordered: float

    @property
    def follows(self) -> bool:
        """Whether unrelated passages let the model abstain more often than not: only then bands of DE mean anything."""
        return self.unrelated < 0.5


class Abstention:
    """A language model's probability of abstaining, one forward pass per passage. Thread-safe.

    The distracting effect of a passage p for a query q is `DE = 1 - P(abstain | q, p)` (Amiraz et al., arXiv
    2505.06914, section 3): the prompt holds one passage, the question and, as the answer, an abstention marker; the
    probability is that of the marker's first token at the position before it. Nothing is generated. The paper means
    it for ranking passages of one query.

    The prompt stands in the model's chat template. Passages are data: special tokens spelled out in them are plain
    characters. What all prompts share is computed once. Of a passage longer than 2,048 tokens, or than the model's
    range, overlapping windows are read, and the most distracting one counts.

    Args:
        model: a `LanguageModel`, or what one is made of: None for the embedded SmolLM2, a folder, a GGUF file, or a
            hub name.

    Raises:
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(self, model: LanguageModel | str | Path | None = None) -> None:
        self.model = LanguageModel.of(model)

    @property
    def check(self) -> InstructionCheck:
        """Does the model abstain where it should? Measured once per model, on passages about made-up things."""
        if self.model not in _CHECKED:
            _CHECKED[self.model] = self._check()
        return _CHECKED[self.model]

    def _check(self) -> InstructionCheck:
        effects = np.array([self.distracting(question, [p for _, p in _CHECKS]) for question, _ in _CHECKS])
        own = np.eye(len(_CHECKS), dtype=bool)
        right = effects[own][:, None] > effects
        return InstructionCheck(float(effects[~own].mean()), float(effects[own].mean()), float(right[~own].mean()))

    def distracting(self, query: str, passages: Sequence[Passage | str]) -> NDArray[np.float64]:
        """The distracting effect of each passage: `1 - P(abstain | query, passage)`.

        Args:
            query: the user's question.
            passages: what is kept of each is read, with its title in front.

        Returns:
            [number of passages] float64 in [0, 1].

        Raises:
            InvalidInputError: an empty query, or one that leaves no room for a passage.
            ModelError: the model cannot be loaded, has no usable chat template, or gives no numbers.
        """
        return np.asarray(-np.expm1(self.log_abstain(query, passages)))

    def log_abstain(self, query: str, passages: Sequence[Passage | str]) -> NDArray[np.float64]:
        """[number of passages] float64 natural logarithm of P(abstain | query, passage); see `distracting`.

        The logarithm keeps passages apart where the probability is close to 0.
        """
        if not query.strip():
            raise InvalidInputError("the query is empty; pass the user's question")
        rows: list[list[int]] = []
        owners: list[int] = []
        for index, passage in enumerate(map(Passage.of, passages)):
            windows = self._prompts(query, passage)
            rows += windows
            owners += [index] * len(windows)
        result = np.zeros(len(passages))
        if rows:
            found = self.model.log_next(rows, self._frame[1])
            # The least abstaining window is the most distracting one; log P is at most 0, where the search starts.
            np.minimum.at(result, np.array(owners), found)
        return result

    @cached_property
    def _frame(self) -> tuple[list[int], int]:
        """Tokens behind the user's turn up to the marker, and the marker's first token."""
        after = self.model.chat.turn[1]
        # The marker is tokenised with what stands before it, and found by its characters: where a space in front
        # belongs to its first token, the same token is the one that counts.
        ids, offsets = self.model.encoder.markup_offsets(after + MARKER)
        start = int(np.argmax(offsets[:, 1] > len(after)))
        return ids[:start], ids[start]

    def _prompts(self, query: str, passage: Passage) -> list[list[int]]:
        """The prompt of a passage in tokens; of a long one, those of its windows."""
        encoder, before, after = self.model.encoder, self.model.chat.opening, self._frame[0]
        text = f"{passage.title}\n{passage.text}" if passage.title else passage.text
        head, tail = f"{INSTRUCTION}\n\nDocument:\n", f"\n\nQuestion: {query}"

        def prompt(piece: str) -> list[int]:
            # One string, so that tokens at the seams are those that the model would see anywhere else.
            return [*before, *encoder.data(head + piece + tail)[0], *after]

        limit = self.model.context_window
        room = min(_WINDOW, limit - len(prompt("")) - 2)
        if room < 16:
            raise InvalidInputError(
                f"the query leaves room for {room} tokens of a passage; {self.model.name} sees {limit} at once: "
                "shorten the query"
            )
        _, offsets = encoder.data(text)
        if len(offsets) <= room:
            return [prompt(text)]
        step = room - room // 8
        starts = range(0, len(offsets) - room + step, step)
        ends = [min(len(offsets), start + room) - 1 for start in starts]
        return [prompt(text[offsets[a, 0] : offsets[b, 1]]) for a, b in zip(starts, ends, strict=True)]
