"""What a language model's next word would rest on: the attention of the focal token (arXiv 2503.10720)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.models.finding import ModelSource
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.reading.reading import PassageReading

NONE = "none"
_TASK = "Answer the question from the text.\n\nText:\n"


@dataclass(frozen=True, slots=True)
class Focal:
    """The word that a model would write behind the hint, having read one chunk.

    Attributes:
        token: the first token of it.
        none: whether it says that the chunk is of no use.
    """

    token: str
    none: bool


@dataclass(frozen=True)
class FocalReading:
    """What the focal tokens of all chunks attend to.

    Attributes:
        passages: the tokens of each passage and their scores: sum over layers, mean over heads, so at most `layers`.
        chunks: by passage, [n] the chunk that each token stands in.
        focal: one per chunk.
        layers: of the model.
    """

    passages: tuple[PassageReading, ...]
    chunks: tuple[NDArray[np.int64], ...]
    focal: tuple[Focal, ...]
    layers: int


class FocalReader:
    """A whole language model that reads a context chunk by chunk and is watched while it answers. Thread-safe.

    The rule of AttentionRAG (arXiv 2503.10720, algorithm 1): the context is cut into chunks of m tokens; behind each
    stand the question and the hint, and one token is decoded greedily, the focal token. It is read in its turn, and a
    token of the chunk scores the attention it receives from it, summed over all layers. The paper does not state what
    becomes of the heads; here it is their mean.

    The prompt stands in the model's chat template, the hint in the answer. Passages and hint are data: special tokens
    spelled out in them are plain characters.

    Args:
        model: a `LanguageModel`, or what one is made of: None for the embedded SmolLM2, a folder, a GGUF file, or a
            hub name.

    Raises:
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(self, model: LanguageModel | str | Path | None = None) -> None:
        self.model = LanguageModel.of(model)

    @property
    def source(self) -> ModelSource:
        """Where the model is."""
        return self.model.source

    def read(self, query: str, hint: str, passages: Sequence[Passage | str], chunk: int = 300) -> FocalReading:
        """Score every token of every passage by the attention of its chunk's focal token.

        Args:
            query: the user's question.
            hint: how an answer begins; ends right before its key word.
            passages: whose `source` is read, one behind the other, with the titles in front.
            chunk: m, the tokens of a chunk.

        Raises:
            InvalidInputError: an empty query, or prompts longer than the model's range.
            ModelError: the model cannot be loaded, or gives scores that are not numbers.
        """
        if not query.strip():
            raise InvalidInputError("the query is empty; pass the user's question")
        encoder = self.model.encoder
        ids: list[int] = []
        rows: list[tuple[int, NDArray[np.int64]]] = []
        for passage in map(Passage.of, passages):
            heading = f"\n\n{passage.title}\n" if passage.title else "\n\n"
            ids += encoder.data(heading if ids else heading.lstrip("\n"))[0]
            own, offsets = encoder.data(passage.source)
            rows.append((len(ids), offsets))
            ids += own
        before, after = self._frame(query, hint)
        limit = self.model.context_window
        if (longest := len(before) + min(chunk, len(ids)) + len(after)) > limit - len(NONE):
            raise InvalidInputError(
                f"query, hint and a chunk of {chunk} tokens make a prompt of {longest}, but {self.model.name} sees "
                f"{limit} at once; use smaller chunks or a shorter query"
            )
        starts = range(0, len(ids), chunk)
        found = [self._watch(before, ids[start : start + chunk], after) for start in starts]
        scores = np.concatenate([s for _, s in found]) if found else np.zeros(0, np.float32)
        return FocalReading(
            tuple(PassageReading(offsets, scores[at : at + len(offsets)]) for at, offsets in rows),
            tuple(np.arange(at, at + len(offsets)) // chunk for at, offsets in rows),
            tuple(focal for focal, _ in found),
            self.model.layers,
        )

    def _frame(self, query: str, hint: str) -> tuple[list[int], list[int]]:
        """Tokens before a chunk, and behind it up to where the focal token comes."""
        encoder, chat = self.model.encoder, self.model.chat
        wish = (
            f'\n\nBegin the answer with "{hint}" and complete it. If the text does not help with the question, '
            f'complete it with "{NONE}".\n\nQuestion: {query}'
        )
        head = chat.opening + encoder.data(_TASK)[0]
        return head, encoder.data(wish)[0] + chat.closing + encoder.data(hint)[0]

    def _watch(
        self, before: Sequence[int], chunk: Sequence[int], after: Sequence[int]
    ) -> tuple[Focal, NDArray[np.float32]]:
        """The focal token of one chunk, and [len(chunk)] what each of its tokens receives from it."""
        tokens, weights = self.model.next_attention([*before, *chunk, *after], self._may_be_none)
        scores = weights[:, len(before) : len(before) + len(chunk)].sum(0)
        decode = self.model.tokenizer.decode
        return Focal(str(decode(tokens[:1])), _spoken(decode(tokens)).startswith(NONE)), scores

    def _may_be_none(self, tokens: list[int]) -> bool:
        """Whether what was written may still become "none", which may be several tokens; "north" begins like it."""
        text = _spoken(self.model.tokenizer.decode(tokens))
        return NONE.startswith(text) and text != NONE and len(tokens) <= len(NONE)


def _spoken(text: str) -> str:
    return text.strip().casefold()
