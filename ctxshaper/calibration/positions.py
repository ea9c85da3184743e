"""Measures how much a local generator attends to each position (step 1 of AttnRank, arXiv 2508.05128)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.data import Passage, Rendering
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.prompts import prompt_places
from ctxshaper.evaluation.questions import Question
from ctxshaper.models.attention import LayersRead, causal
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.stages.attnrank.profile import PositionProfile

# How much more the end slots must get than those between them for a layer to show a basin.
BASIN = 1.3


@dataclass
class ReadSlots:
    """Reads a whole prompt causally and adds up what the question's rows attend to in each slot, layer by layer.

    Only the question's rows of attention are ever made, R x T per head.

    Attributes:
        rows: [R] places of the question's tokens.
        slots: [T] the slot of each token; K for tokens of none.
        count: K.
        layers: how many layers to read.
        mass: by layer, [K] float32 share of the attention, mean over heads and rows; filled by the reading.
    """

    rows: Tensor
    slots: Tensor
    count: int
    layers: int
    mass: list[Tensor] = field(default_factory=list)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        kv, tokens, dim = k.shape
        asked = q[:, self.rows].float().reshape(kv, -1, dim)  # query heads of one key head lie next to each other
        logits = (asked @ k.float().transpose(1, 2) * scale).reshape(q.shape[0], len(self.rows), tokens)
        if softcap is not None:
            logits = torch.tanh(logits / softcap) * softcap
        later = torch.arange(tokens, device=q.device) > self.rows[:, None]
        weights = logits.masked_fill(later, float("-inf")).softmax(-1).mean((0, 1))
        self.mass.append(torch.zeros(self.count + 1, device=q.device).index_add(0, self.slots, weights)[: self.count])
        if layer == self.layers - 1:
            raise LayersRead
        return causal(q, k, v, scale, softcap)


class PositionReader:
    """The first layers of a local generator, and how its question attends to slots.

    Args:
        model: a `LanguageModel`, or what one is made of: None for the embedded SmolLM2, a folder, a GGUF file, or a
            hub name.
        layers: how many layers to read; None for the first half, behind which attention follows content.
        device: of a model that is made here: "auto", or a torch device.
        dtype: the same: "auto", "bfloat16", "float16" or "float32".
        rendering: how the generator is given its passages; the profile depends on it.

    Raises:
        ModelError: the model cannot be loaded or its attention cannot be read.
    """

    def __init__(
        self,
        model: LanguageModel | str | Path | None = None,
        *,
        layers: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        rendering: Rendering | None = None,
    ) -> None:
        made = model if isinstance(model, LanguageModel) else LanguageModel(model, device=device, dtype=dtype)
        self.source, self.encoder, self._chat = made.source, made.encoder, made.chat
        self.rendering = rendering or Rendering()
        self.decoder = made.decoder(max(1, made.layers // 2) if layers is None else layers)

    def attention(self, question: str, passages: Sequence[Passage]) -> NDArray[np.float64]:
        """[layers, K] attention mass of the question's tokens on each passage, mean over heads and these tokens.

        Raises:
            InvalidInputError: an empty question, or a prompt longer than the model's range.
        """
        text, places = prompt_places(question, passages, self.rendering)
        before = self._chat.opening
        own, offsets = self.encoder.data(text)
        ids = [*before, *own, *self._chat.closing]
        limit = self.decoder.max_context
        if limit is not None and len(ids) > limit:
            raise InvalidInputError(
                f"the prompt has {len(ids)} tokens, but {self.source.name} sees {limit} at once; use "
                "fewer slots or shorter passages"
            )
        # A token belongs to where its last character lies: it may begin with white space.
        last = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
        slots = np.full(len(ids), len(passages))
        for slot, (start, end) in enumerate(places[:-1]):
            slots[len(before) + np.flatnonzero((last >= start) & (last < end))] = slot
        rows = len(before) + np.flatnonzero((last >= places[-1][0]) & (last < places[-1][1]))
        if not len(rows):
            raise InvalidInputError("the question is empty; pass questions with text")
        device = self.decoder.device
        call = ReadSlots(
            torch.from_numpy(rows).to(device), torch.from_numpy(slots).to(device), len(passages), self.decoder.layers
        )
        self.decoder.run(ids, range(len(ids)), call)
        return np.stack([m.double().cpu().numpy() for m in call.mass])


def attention_profile(
    reader: PositionReader,
    questions: Sequence[Question],
    slots: int,
    *,
    prompts: int = 200,
    seed: int = 0,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> PositionProfile:
    """Profile a generator's attention to K slots (AttnRank, arXiv 2508.05128, step 1).

    Each prompt holds a question and K of its passages in random order; attention is averaged over prompts, so that
    what a passage says evens out and the place remains. The layer is the shallowest whose ends get at least 1.3 times
    what the slots between them get (`basin`); if there is none, the first layer.

    Args:
        reader: the generator.
        questions: taken in turn, as often as needed.
        slots: K, at least 1.
        prompts: N.
        seed: of the shuffling.
        progress: wraps the loop, for a progress bar.

    Raises:
        InvalidInputError: no questions, or one with fewer than K passages.
    """
    generator = random.Random(seed)  # noqa: S311  # shuffling, not secrets
    check_questions(questions, slots, prompts)
    total: NDArray[np.float64] = np.zeros((reader.decoder.layers, slots))
    for number in progress(range(prompts)):
        question = questions[number % len(questions)]
        chosen = generator.sample(range(len(question.passages)), slots)
        # The evidence is there, in a random slot, as it is in use.
        if question.gold and not question.gold & set(chosen):
            chosen[generator.randrange(slots)] = min(question.gold)
        total += reader.attention(question.text, [question.passages[i] for i in chosen])
    shares = total / total.sum(1, keepdims=True)
    basins = [basin(layer) for layer in shares]
    layer = next((i for i, value in enumerate(basins) if value >= BASIN), 0)
    return PositionProfile(
        generator=reader.source.name,
        attention=tuple(map(float, shares[layer])),
        layer=layer,
        provenance={
            "method": "attention",
            "prompts": prompts,
            "seed": seed,
            "basin_found": bool(basins[layer] >= BASIN),
            "basin_by_layer": [round(float(b), 3) for b in basins],
            "shares_by_layer": [[round(float(x), 4) for x in row] for row in shares],
        },
    )


def basin(shares: NDArray[np.float64]) -> float:
    """min(first, last) / mean(interior) of the shares of slots; 1 where there is no interior."""
    if len(shares) < 3:
        return 1.0
    return float(min(shares[0], shares[-1]) / max(shares[1:-1].mean(), 1e-12))


def check_questions(questions: Sequence[Question], slots: int, prompts: int) -> None:
    """Refuse questions that K slots cannot be filled from.

    Raises:
        InvalidInputError: no questions, slots or prompts, or a question with fewer passages than slots.
    """
    if slots < 1 or prompts < 1 or not questions:
        raise InvalidInputError(
            f"positions need slots >= 1, prompts >= 1 and questions, but got {slots}, {prompts} and {len(questions)}"
        )
    short = min(len(q.passages) for q in questions)
    if short < slots:
        raise InvalidInputError(f"{slots} slots need as many passages per question, but one has {short}")
