"""A language model on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxshaper.data import Message
from ctxshaper.data.marked import marks_of
from ctxshaper.errors import InvalidInputError, MissingDependencyError
from ctxshaper.generators.base import Prompt, ScoringGenerator, as_messages, as_text
from ctxshaper.generators.steering.base import Steering
from ctxshaper.models.finding import resolve_lm

if TYPE_CHECKING:
    from ctxshaper.models.language_model import LanguageModel


class LocalGenerator(ScoringGenerator):
    """A causal language model of transformers, loaded at first use. Thread-safe; one batch at a time.

    Several generators, and whoever else uses the same model in this process, share what is loaded. What stands in a
    message is data: special tokens spelled out in it are plain characters to the model. Copying or pickling carries the
    description and nothing that was loaded.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, a hub name, or a `LanguageModel`.
        max_new_tokens: the longest answer.
        temperature: 0 always takes the likeliest token; above it, tokens are drawn (by torch's random state).
        top_p: draws only from the likeliest tokens that together reach this probability.
        steering: how its attention is changed meanwhile: `PASTA()` and the others of `ctxshaper.generators.steering`.
            Others who use the model are not concerned.
        device: "auto", or a torch device; a `LanguageModel` brings its own.
        dtype: "auto", "bfloat16", "float16" or "float32"; a `LanguageModel` brings its own.

    Raises:
        InvalidInputError: an option out of range, or a device or type beside a `LanguageModel`. At first use: a
            steering that does not go with the model, or a prompt without marks for one that needs them.
        MissingDependencyError: the embedded model is not installed.
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    max_new_tokens: int

    def __init__(
        self,
        model: LanguageModel | str | Path | None = None,
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        steering: Steering | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        if max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
            raise InvalidInputError(
                "LocalGenerator needs max_new_tokens >= 1, temperature >= 0 and top_p in (0, 1], but got "
                f"{max_new_tokens}, {temperature} and {top_p}"
            )
        if steering is not None and not isinstance(steering, Steering):
            raise InvalidInputError(f"steering must be one of ctxshaper.generators.steering, but got {steering!r:.80}")
        if temperature and steering is not None and steering.copies > 1:
            raise InvalidInputError(
                f"{type(steering).__name__} mixes {steering.copies} copies, which always take the likeliest token; use "
                f"temperature=0 instead of {temperature}"
            )
        self._description = (model, device, dtype)
        if model is None or isinstance(model, (str, Path)):
            self.source = resolve_lm(model)
        elif (device, dtype) != ("auto", "auto"):
            raise InvalidInputError(
                f"the LanguageModel has a device and a type already, but got device={device!r} and dtype={dtype!r} "
                "beside it; pass them to LanguageModel"
            )
        else:
            self.source = model.source
        self.max_new_tokens, self.temperature, self.top_p = max_new_tokens, temperature, top_p
        self.steering = steering

    def __repr__(self) -> str:
        return f"LocalGenerator({self.source.name!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("language_model", "_steering")}

    @cached_property
    def language_model(self) -> LanguageModel:
        """The model that writes.

        Raises:
            MissingDependencyError: torch or transformers is not installed.
        """
        model, device, dtype = self._description
        if model is not None and not isinstance(model, (str, Path)):
            return model
        try:
            from ctxshaper.models.language_model import LanguageModel
        except ImportError as error:
            raise MissingDependencyError("LocalGenerator needs pip install 'ctxshaper[reader]'") from error
        return LanguageModel(model, device=device, dtype=dtype)

    @cached_property
    def _steering(self) -> Steering | None:
        """The steering with what was calibrated for this model."""
        model = self.language_model
        return self.steering and self.steering.resolved(model.name, model.layers, model.heads)

    @property
    def model(self) -> Any:
        """The model of transformers; shared, so nothing of it may be changed."""
        return self.language_model.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers; shared, so nothing of it may be changed."""
        return self.language_model.tokenizer

    @property
    def context_window(self) -> int:  # type: ignore[override]  # read from the model
        """Tokens that prompt and answer may take together."""
        return self.language_model.context_window

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return self.language_model.encoder.count(text)

    def generate(self, prompt: Prompt) -> str:
        """The model's answer.

        Raises:
            GeneratorError: prompt and answer do not fit into the model's window; nothing is cut to make them fit.
            DeadlineError: the request's time is over; asked between tokens.
        """
        return self.generate_batch([prompt])[0]

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """The same for many prompts, in their order; see `LanguageModel.generate_batch`."""
        return self.language_model.generate_batch(
            [self._messages(prompt) for prompt in prompts],
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            steering=self._steering,
        )

    async def agenerate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """The same in a thread: side by side the prompts cost one reading of the weights, one by one each its own."""
        return await asyncio.to_thread(self.generate_batch, prompts)

    def logprobs(self, prompt: Prompt, continuation: str) -> list[float]:
        """Natural log-probability of each token of a continuation; see `ScoringGenerator`.

        Raises:
            GeneratorError: prompt and continuation do not fit into the model's window.
            DeadlineError: the request's time is over; asked between batches.
        """
        return self.logprobs_batch([(prompt, continuation)])[0]

    def logprobs_batch(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """The same for many pairs, in their order; similar lengths share a forward pass."""
        return self.language_model.logprobs_batch(
            [(self._messages(prompt), text) for prompt, text in pairs], steering=self._steering
        )

    def _messages(self, prompt: Prompt) -> list[Message]:
        messages = as_messages(prompt)
        steered = self.steering is not None and self.steering.needs_marks
        if steered and not any(marks_of(message["content"]) for message in messages):
            raise InvalidInputError(
                f"{type(self.steering).__name__} puts weight on what a prompt marks, but nothing is marked in "
                f"{as_text(prompt)!r:.80}; build the prompt by + from shaped.marked(), or mark ranges with Marked"
            )
        return messages
