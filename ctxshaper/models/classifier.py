"""Sequence classifiers of transformers that tell injected instructions from ordinary text."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.errors import ModelError
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.guard import loading
from ctxshaper.models.loading import load_tokenizer
from ctxshaper.models.threads import fit_threads
from ctxshaper.text.tokenization import Encoder

# What classifiers call the label that is none: Prompt Guard 2 has LABEL_0, Prompt Guard BENIGN, PIGuard benign,
# ProtectAI's SAFE.
_BENIGN = frozenset({"benign", "safe", "label_0", "legit", "negative"})
# Tokens of one forward pass, padding included.
_BATCH = 4096


class Classifier:
    """A sequence classifier, loaded at first use, never with code of its own. Thread-safe; one batch at a time.

    Args:
        model: a folder with safetensors, or a hub name, such as `meta-llama/Llama-Prompt-Guard-2-86M`.

    Raises:
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(self, model: str | Path) -> None:
        self.source = resolve_lm(model)
        self._lock = threading.RLock()

    @cached_property
    def encoder(self) -> Encoder:
        """The classifier's tokenizer, safe to share."""
        return Encoder(self._tokenizer)

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.source)

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens in front of a text and behind it."""
        own = self._tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = self._tokenizer("a")["input_ids"]
        at = next((i for i in range(len(whole)) if whole[i : i + len(own)] == own), 0)
        return whole[:at], whole[at + len(own) :]

    @cached_property
    def _model(self) -> Any:
        source = self.source.on_disk()
        fit_threads()
        with loading(source):
            from transformers import AutoModelForSequenceClassification

            model, found = AutoModelForSequenceClassification.from_pretrained(
                source.location, use_safetensors=True, output_loading_info=True, **source.arguments()
            )
            # transformers would go on with a head of random numbers.
            if found["missing_keys"] or found["mismatched_keys"]:
                raise ModelError(
                    f"{source.location} is no complete classifier: it lacks {sorted(found['missing_keys'])[:3]}; name "
                    "a model that was trained to classify"
                )
            return model.eval()

    @cached_property
    def _benign(self) -> int:
        """The place of the label that means ordinary text."""
        labels = {int(place): str(label).lower() for place, label in self._model.config.id2label.items()}
        named = [place for place, label in labels.items() if label in _BENIGN]
        if len(named) != 1:
            raise ModelError(
                f"the classifier {self.source.name!r} has the labels {sorted(labels.values())}; one of them must be "
                f"called {', '.join(sorted(_BENIGN))}: set id2label in its config.json"
            )
        return named[0]

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[len(texts)] the probability that a text is not benign; what is longer than the model's range is cut off.

        Raises:
            ModelError: the model cannot be loaded, is no classifier, or gives no numbers.
            DeadlineError: the request's time is over; asked between batches.
        """
        if not texts:
            return np.zeros(0)
        with tracing.span("ctxshaper.classify", texts=len(texts)), self._lock:
            import torch

            before, after = self._frame
            room = self._longest - len(before) - len(after)
            rows = [[*before, *self.encoder.data(text)[0][:room], *after] for text in texts]
            result, order = np.zeros(len(rows)), sorted(range(len(rows)), key=lambda i: len(rows[i]))
            while order:
                deadline.check()
                batch = [order.pop()]
                longest = max(1, len(rows[batch[0]]))
                while order and (len(batch) + 1) * longest <= _BATCH:
                    batch.append(order.pop())
                ids = torch.full((len(batch), longest), self._tokenizer.pad_token_id or 0)
                seen = torch.zeros(len(batch), longest, dtype=torch.long)
                for place, index in enumerate(batch):
                    ids[place, : len(rows[index])] = torch.tensor(rows[index], dtype=torch.long)
                    seen[place, : len(rows[index])] = 1
                with torch.inference_mode():
                    logits = self._model(input_ids=ids, attention_mask=seen).logits.float()
                result[batch] = 1 - torch.softmax(logits, -1)[:, self._benign].double().numpy()
        if not np.isfinite(result).all():
            raise ModelError(f"the classifier {self.source.name!r} gave probabilities that are not numbers")
        return result

    @property
    def _longest(self) -> int:
        return min(512, int(getattr(self._model.config, "max_position_embeddings", 0) or 512))


@cache
def classifier(model: str) -> Classifier:
    """The classifier of that name, one for the process."""
    return Classifier(model)
