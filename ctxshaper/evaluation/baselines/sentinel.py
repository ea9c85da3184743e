"""Sentinel (arXiv 2505.23277): a logistic regression over the last token's attention at every head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Context, Passage
from ctxshaper.evaluation.baselines.fitted import fitted_for
from ctxshaper.evaluation.baselines.whole_prompt import Documents, Tail, attended
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.stages import Run, ScoringStage, Unit

# Tokens of one prompt's passages: the paper's chunk (section 3). A passage is never divided here.
_CHUNK = 1024
_LEAD = "Given the following information: "
_ASK = "Answer the following question based on the given information with one or few words:\n"
_AFTER = "\nAnswer:"


@dataclass(frozen=True, kw_only=True)
class SentinelProbe(ScoringStage):
    """Sentences by a probe of what the last token of a question-answering prompt attends to (section 2).

    Attention to the context's tokens, at each head as a share of the context, mean over a sentence's tokens, weighted.
    The weights were fitted on made-up questions; the paper fits them on NewsQA, SQuAD and HotpotQA, for Qwen2.5-0.5B.
    Nothing is remembered: another question reads all passages anew.
    """

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        model = run.parts.language_model
        weights = fitted_for(model).weights.ravel()
        return list(features(model, context.query, context.passages, units) @ weights)


def features(
    model: LanguageModel, query: str, passages: Sequence[Passage], units: Sequence[Unit]
) -> NDArray[np.float64]:
    """[len(units), L * H] mean share of the attention that a unit's tokens get, by head."""
    tail = Tail.of(model, _ASK, query, _AFTER, "last")
    found = np.zeros((model.layers, model.heads, len(units)))
    for chunk in _chunks(model, passages):
        documents = Documents.of(model, _LEAD, [passages[i] for i in chunk])
        (weights,) = attended(model, documents, [tail])
        # What falls on the prompt's own words, most of all on its first token, says nothing of the sentences.
        inside = np.zeros(len(documents.ids), dtype=bool)
        for start, end in documents.places:
            inside[start:end] = True
        shares = weights / np.maximum(weights[..., inside].sum(-1, keepdims=True), 1e-12)
        places = [place for place, unit in enumerate(units) if unit.passage in chunk]
        own = [Unit(chunk.index(units[place].passage), units[place].span) for place in places]
        found[..., places] = documents.of_units(own, shares)
    return found.reshape(-1, len(units)).T


def _chunks(model: LanguageModel, passages: Sequence[Passage]) -> list[range]:
    """Which passages stand in one prompt: neighbours of up to 1,024 tokens together, a longer one alone."""
    chunks: list[range] = []
    room = 0
    for index, passage in enumerate(passages):
        size = model.encoder.count(f"{passage.title}\n{passage.source}")
        if size > room or not chunks:
            chunks.append(range(index, index))
            room = _CHUNK
        chunks[-1] = range(chunks[-1].start, index + 1)
        room -= size
    return chunks
