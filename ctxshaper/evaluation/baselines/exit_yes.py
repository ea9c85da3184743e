"""EXIT (arXiv 2412.12559): for each sentence, how surely a language model says that it is useful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.data import Context, deadline
from ctxshaper.errors import ModelError
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.models.writing import batches
from ctxshaper.stages import Run, ScoringStage, Unit
from ctxshaper.stages.units import text_of

_ASKED = 'Is this sentence useful in answering the query? Answer only "Yes" or "No".'


@dataclass(frozen=True, kw_only=True)
class ExitSentences(ScoringStage):
    """Sentences by P(Yes) / (P(Yes) + P(No)) of the next token, given query, whole passage and sentence (section 3.2).

    EXIT trains Gemma-2B for it; its weights are not to be had here, so this asks the language model of the parts, which
    was not trained for it. Its threshold of 0.5 gives way to the budget. Every sentence is a prompt of its own, many in
    a batch; nothing is remembered.
    """

    def score(self, context: Context, units: Sequence[Unit], run: Run) -> Sequence[float]:
        """See the base."""
        model = run.parts.language_model
        wholes = [f"{p.title}\n{p.source}" if p.title else p.source for p in context.passages]
        rows = [
            model.chat.encode(
                f"Query:\n{context.query}\nFull context:\n{wholes[unit.passage]}\n"
                f"Sentence:\n{text_of(context, unit).strip()}\n{_ASKED}"
            )
            for unit in units
        ]
        return list(yes(model, rows))


@torch.inference_mode()
def yes(model: LanguageModel, rows: Sequence[list[int]]) -> NDArray[np.float64]:
    """[len(rows)] P(Yes) / (P(Yes) + P(No)) as the next token behind each row of tokens.

    Raises:
        ModelError: the model gives no numbers.
        DeadlineError: the request's time is over; asked between batches.
    """
    words = [model.encoder.data(word)[0][0] for word in ("Yes", "No")]
    device, result = model.model.device, np.zeros(len(rows))
    for batch in batches([len(row) for row in rows]):
        deadline.check()
        width = max(len(rows[i]) for i in batch)
        # Padded in front, so that all rows end in the last column.
        ids = torch.tensor([[words[0]] * (width - len(rows[i])) + rows[i] for i in batch], device=device)
        lost = torch.tensor([[width - len(rows[i])] for i in batch], device=device)
        places = torch.arange(width, device=device)[None]
        logits: torch.Tensor = model.model(
            input_ids=ids,
            attention_mask=(places >= lost).long(),
            position_ids=(places - lost).clamp(min=0),
            logits_to_keep=1,
            use_cache=False,
        ).logits
        result[batch] = logits[:, -1, words].double().softmax(-1)[:, 0].cpu().numpy()
    if not np.isfinite(result).all():
        raise ModelError("the model gave probabilities that are not numbers; use dtype='float32'")
    return result
