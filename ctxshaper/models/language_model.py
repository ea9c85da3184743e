"""One whole language model for all that need one: writing, probabilities, attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.errors import GeneratorError, ModelError
from ctxshaper.models.attention import AttentionCall
from ctxshaper.models.chat import Chat
from ctxshaper.models.decoder import Decoder
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.gradients import embedding_gradients
from ctxshaper.models.loaded import LoadedModel, loaded
from ctxshaper.models.next_token import log_next, next_attention
from ctxshaper.models.placing import pick_device, pick_dtype
from ctxshaper.models.steered import Steering
from ctxshaper.models.writing import Prompted, batches, score, write
from ctxshaper.text.tokenization import Encoder

ChatPrompt = str | Sequence[Mapping[str, object]]


class LanguageModel:
    """A causal language model with its head. Thread-safe; one batch at a time.

    It is loaded at first use, once per process: all instances of the same files, device and type share what is loaded,
    and a `Reader` of the same model shares the layers that it reads. Copying or pickling carries the description
    (model, device, type) and nothing that was loaded. What stands in a message is data: special tokens spelled out in
    it are plain characters to the model.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16", "float32", or torch's type.

    Raises:
        InvalidInputError: another device or type.
        MissingDependencyError: the embedded model is not installed.
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(
        self, model: str | Path | None = None, *, device: str | torch.device = "auto", dtype: str | torch.dtype = "auto"
    ) -> None:
        self._description = (model, device, dtype)
        self.source = resolve_lm(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)

    @classmethod
    def of(cls, model: LanguageModel | str | Path | None) -> LanguageModel:
        """The model itself, or the one described."""
        return model if isinstance(model, cls) else cls(model)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"LanguageModel({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, self._description

    @cached_property
    def _loaded(self) -> LoadedModel:
        return loaded(self.source, self.device, self.dtype)

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.source.name

    @property
    def model(self) -> Any:
        """The model of transformers, on its device; shared, so nothing of it may be changed."""
        return self._loaded.model

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of transformers; shared, so nothing of it may be changed. To encode text see `encoder`."""
        return self._loaded.tokenizer

    @property
    def encoder(self) -> Encoder:
        """The model's tokenizer, safe to use from many threads."""
        return self._loaded.encoder

    @property
    def chat(self) -> Chat:
        """How the model is spoken to: prompts in its chat template."""
        return self._loaded.chat

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer may take together."""
        return int(getattr(self._loaded.config, "max_position_embeddings", 0) or 8192)

    @property
    def layers(self) -> int:
        """How many layers the model has."""
        return int(self._loaded.config.num_hidden_layers)

    @property
    def heads(self) -> int:
        """How many attention heads each layer has."""
        return int(self._loaded.config.num_attention_heads)

    def generate_batch(
        self,
        prompts: Sequence[ChatPrompt],
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        steering: Steering | None = None,
    ) -> list[str]:
        """Answers to prompts, in their order; similar lengths are written side by side.

        A word costs a reading of all weights, for one prompt as for ten. Sums of a batch are rounded otherwise than
        those of one row, so where two tokens are about as likely a batch may choose the other one.

        Args:
            prompts: text, taken as one turn of the user, or messages with role and content.
            max_new_tokens: the longest answer.
            temperature: 0 always takes the likeliest token; above it, tokens are drawn (by torch's random state).
            top_p: draws only from the likeliest tokens that together reach this probability.
            steering: what changes the attention meanwhile, of this call only; tokens of `Marked` text are marked.

        Raises:
            GeneratorError: prompt and answer do not fit into the model's window; nothing is cut to make them fit.
            DeadlineError: the request's time is over; asked between tokens.
        """
        with tracing.chat(self.name, prompts, max_tokens=max_new_tokens, temperature=temperature) as span:
            rows = [self.chat.encode_marked(prompt) for prompt in prompts]
            drawing = {"temperature": temperature, "top_p": top_p} if temperature else {}
            written = self._written(rows, max_new_tokens, drawing, steering)
            answers = [str(self.tokenizer.decode(tokens, skip_special_tokens=True)) for tokens in written]
            said = sum(token != self._pad for tokens in written for token in tokens)
            tracing.answered(span, answers, sum(len(ids) for ids, _ in rows), said)
        return answers

    def _written(
        self, rows: Sequence[Prompted], most: int, drawing: dict[str, float], steering: Steering | None
    ) -> list[list[int]]:
        """The tokens of the answers to rows of tokens."""
        lengths = [len(ids) for ids, _ in rows]
        longest = max(lengths, default=0)
        if longest >= self.context_window:
            raise GeneratorError(
                f"the prompt has {longest} tokens, but {self.name} reads {self.context_window}; "
                "send less text or use a model with a larger window"
            )
        result: list[list[int]] = [[] for _ in rows]
        for batch in batches([length + most for length in lengths], whole=self.context_window):
            room = min(most, self.context_window - max(lengths[i] for i in batch))
            with self._turn():
                answers = write(self._which(steering), [rows[i] for i in batch], self._pad, room, drawing, steering)
            for index, answer in zip(batch, answers, strict=True):
                result[index] = answer
        return result

    def logprobs_batch(
        self, pairs: Sequence[tuple[ChatPrompt, str]], *, steering: Steering | None = None
    ) -> list[list[float]]:
        """Natural log-probability of each token of a continuation, given the prompt and the tokens before.

        Args:
            pairs: prompts, and how the answer to each begins; special tokens in it count as plain characters.
            steering: what changes the attention meanwhile, of this call only; tokens of `Marked` text are marked.

        Raises:
            GeneratorError: prompt and continuation do not fit into the model's window.
            DeadlineError: the request's time is over; asked between batches.
        """
        rows = [(self.chat.encode_marked(prompt), self.encoder.data(text)[0]) for prompt, text in pairs]
        lengths = [len(head) + len(tail) for (head, _), tail in rows]
        longest = max(lengths, default=0)
        if longest > self.context_window:
            raise GeneratorError(
                f"prompt and continuation have {longest} tokens, but {self.name} reads {self.context_window}; "
                "send less text or use a model with a larger window"
            )
        result: list[list[float]] = [[] for _ in rows]
        for batch in batches(lengths):
            with self._turn():
                values = score(self._which(steering), [rows[i] for i in batch], self._pad, steering)
            for index, value in zip(batch, values, strict=True):
                result[index] = value
        return result

    def log_next(self, rows: Sequence[Sequence[int]], token: int) -> NDArray[np.float64]:
        """[len(rows)] natural logarithm of P(token) as the next token behind each row of tokens.

        What all rows begin with is computed once.

        Raises:
            ModelError: the model gives no numbers.
            DeadlineError: the request's time is over; asked between batches.
        """
        if not rows:
            return np.zeros(0)
        with self._turn():
            found = log_next(self.model, rows, token)
        if not np.isfinite(found).all():
            raise ModelError("the model gave probabilities that are not numbers; use dtype='float32'")
        return found

    def next_attention(
        self, ids: Sequence[int], more: Callable[[list[int]], bool] = lambda _: False
    ) -> tuple[list[int], NDArray[np.float32]]:
        """The likeliest next token behind a prompt, and its attention to the prompt's tokens.

        Args:
            ids: [T] tokens of the prompt.
            more: told the tokens written so far, says whether to write one more.

        Returns:
            The tokens written, at least one; and [layers, T] the first one's attention, mean over heads.

        Raises:
            ModelError: the model gives no numbers.
            DeadlineError: the request's time is over; asked between tokens.
        """
        with self._turn():
            tokens, weights = next_attention(self._loaded.eager, ids, more)
        if not np.isfinite(weights).all():
            raise ModelError("the model gave attention that is not a number; use dtype='float32'")
        return tokens, weights

    def answer_gradients(self, ids: Sequence[int], most: int) -> NDArray[np.float32]:
        """How much the model's own answer depends on each token of a prompt.

        Args:
            ids: [T] tokens of the prompt.
            most: the most tokens of the answer, which is written greedily.

        Returns:
            [T] float32: length of the gradient of the answer's mean cross entropy with respect to the embedding.

        Raises:
            GeneratorError: prompt and answer do not fit into the model's window.
            ModelError: the model gives no numbers.
            DeadlineError: the request's time is over; asked between tokens.
        """
        answer = self._written([(list(ids), [False] * len(ids))], most, {}, None)[0]
        with self._turn():
            found = embedding_gradients(self.model, ids, answer)
        if not np.isfinite(found).all():
            raise ModelError("the model gave gradients that are not numbers; use dtype='float32'")
        return found

    def decoder(self, layers: int | None = None) -> Decoder:
        """The first layers under this project's attention, over the same weights; None for all layers.

        Raises:
            ModelError: the model has fewer layers.
            UnsupportedModelError: an attention that would be read wrongly.
        """
        return self._loaded.decoder(self.layers if layers is None else layers)

    def run(
        self, ids: Sequence[int], positions: Sequence[int], call: AttentionCall, *, layers: int | None = None
    ) -> None:
        """One forward pass in which a call stands in for the attention: it sees the q, k and v of every layer.

        Args:
            ids: [T] tokens.
            positions: [T] positions.
            call: what stands in; it keeps what it wants, and may end the pass with `LayersRead`.
            layers: how many of the first layers; None for all.

        Raises:
            UnsupportedModelError: an attention that would be read wrongly.
            DeadlineError: the request's time is over; asked in every layer.
        """
        self.decoder(layers).run(ids, positions, call)

    def _which(self, steering: Steering | None) -> Any:
        return self.model if steering is None else self._loaded.steered

    @property
    def _pad(self) -> int:
        ends = self.model.generation_config.eos_token_id
        known = (self.tokenizer.pad_token_id, ends[0] if isinstance(ends, list) else ends)
        return next((int(i) for i in known if i is not None), 0)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One batch at a time on one device; who waits for the turn keeps to the deadline too."""
        lock = self._loaded.lock
        deadline.check()
        while not lock.acquire(timeout=0.1):
            deadline.check()
        try:
            yield
        finally:
            lock.release()


def _made(model: str | Path | None, device: Any, dtype: Any) -> LanguageModel:
    return LanguageModel(model, device=device, dtype=dtype)
