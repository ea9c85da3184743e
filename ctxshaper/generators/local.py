"""A language model on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import GeneratorError, InvalidInputError, MissingDependencyError
from ctxshaper.generators.base import Message, Prompt, ScoringGenerator, as_messages
from ctxshaper.models.loading import load_lm, load_tokenizer, resolve_lm

if TYPE_CHECKING:
    import torch

    from ctxshaper.text.tokenization import Encoder

# Tokens of one batch of log-probabilities, padding included: bounds the memory, not the result.
_BATCH_TOKENS = 8192
# Private-use characters stand for the contents while the template is filled; no template has them.
_MARK = "\ue000{}\ue001"


class LocalGenerator(ScoringGenerator):
    """A causal language model of transformers, loaded at first use. Thread-safe; one batch at a time.

    What stands in a message is data: special tokens spelled out in it are plain characters to the model.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        max_new_tokens: the longest answer.
        temperature: 0 always takes the likeliest token; above it, tokens are drawn (by torch's random state).
        top_p: draws only from the likeliest tokens that together reach this probability.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32".

    Raises:
        InvalidInputError: an option out of range.
        MissingDependencyError: torch or the embedded model is not installed.
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    max_new_tokens: int

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float = 1.0,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        if max_new_tokens < 1 or temperature < 0 or not 0 < top_p <= 1:
            raise InvalidInputError(
                "LocalGenerator needs max_new_tokens >= 1, temperature >= 0 and top_p in (0, 1], but got "
                f"{max_new_tokens}, {temperature} and {top_p}"
            )
        self.source = resolve_lm(model)
        self.max_new_tokens, self.temperature, self.top_p = max_new_tokens, temperature, top_p
        self._device, self._dtype = device, dtype
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"LocalGenerator({self.source.name!r})"

    @cached_property
    def model(self) -> Any:
        """The model of transformers, on its device."""
        try:
            from ctxshaper.models.decoder import pick_device, pick_dtype
        except ImportError as error:
            raise MissingDependencyError("LocalGenerator needs pip install 'ctxshaper[reader]'") from error
        with self._lock:
            if "model" not in self.__dict__:
                device = pick_device(self._device)
                model = load_lm(self.source, dtype=pick_dtype(self._dtype, device), head=True)
                self.__dict__["model"] = model.to(device)
            return self.__dict__["model"]

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        with self._lock:
            if "tokenizer" not in self.__dict__:
                self.__dict__["tokenizer"] = load_tokenizer(self.source)
            return self.__dict__["tokenizer"]

    @cached_property
    def _encoder(self) -> Encoder:
        from ctxshaper.text.tokenization import Encoder

        return Encoder(self.tokenizer)

    @property
    def context_window(self) -> int:  # type: ignore[override]  # read from the model
        """Tokens that prompt and answer may take together."""
        return int(getattr(self.model.config.get_text_config(), "max_position_embeddings", 0) or 8192)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text."""
        return self._encoder.count(text)

    def generate(self, prompt: Prompt) -> str:
        """The model's answer.

        Raises:
            GeneratorError: prompt and answer do not fit into the model's window; nothing is cut to make them fit.
        """
        return self.generate_batch([prompt])[0]

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """The same for many prompts, in their order; similar lengths are written side by side.

        A word costs a reading of all weights, for one prompt as for ten. Sums of a batch are rounded otherwise than
        those of one row, so where two tokens are about as likely a batch may choose the other one.
        """
        rows = [self._encode(as_messages(prompt)) for prompt in prompts]
        longest = max(map(len, rows), default=0)
        if longest >= self.context_window:
            raise GeneratorError(
                f"the prompt has {longest} tokens, but {self.source.name} reads {self.context_window}; "
                "send less text or use a model with a larger window"
            )
        result = [""] * len(rows)
        limit = self.max_new_tokens
        for batch in _batches([len(row) + limit for row in rows], whole=self.context_window):
            for index, text in zip(batch, self._write([rows[i] for i in batch]), strict=True):
                result[index] = text
        return result

    def _write(self, rows: Sequence[list[int]]) -> list[str]:
        """Answers to rows of one batch."""
        import torch

        drawing = {"temperature": self.temperature, "top_p": self.top_p} if self.temperature else {}
        ids, mask = self._padded(rows)
        width = ids.shape[1]
        with self._lock, torch.inference_mode():
            answers = self.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=min(self.max_new_tokens, self.context_window - width),
                do_sample=bool(drawing),
                pad_token_id=self._pad,
                **drawing,
            )
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in answers[:, width:].tolist()]

    def logprobs(self, prompt: Prompt, continuation: str) -> list[float]:
        """Natural log-probability of each token of a continuation; see `ScoringGenerator`.

        Raises:
            GeneratorError: prompt and continuation do not fit into the model's window.
        """
        return self.logprobs_batch([(prompt, continuation)])[0]

    def logprobs_batch(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """The same for many pairs, in their order; similar lengths share a forward pass."""
        rows = [(self._encode(as_messages(prompt)), self._encoder.data(text)[0]) for prompt, text in pairs]
        longest = max((len(head) + len(tail) for head, tail in rows), default=0)
        if longest > self.context_window:
            raise GeneratorError(
                f"prompt and continuation have {longest} tokens, but {self.source.name} reads {self.context_window}"
            )
        result: list[list[float]] = [[] for _ in rows]
        for batch in _batches([len(head) + len(tail) for head, tail in rows]):
            for index, values in zip(batch, self._score([rows[i] for i in batch]), strict=True):
                result[index] = values
        return result

    def _score(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
        """[len(rows)][tokens of the continuation] log-probabilities of rows of one batch."""
        import torch

        longest = max(len(tail) for _, tail in rows)
        if not longest:
            return [[] for _ in rows]
        # The continuations of all rows end in the last column.
        ids, mask = self._padded([head + tail for head, tail in rows])
        with self._lock, torch.inference_mode():
            logits: torch.Tensor = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                logits_to_keep=longest + 1,
                use_cache=False,
            ).logits
            # The logits of a place tell of the next one.
            known = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, -longest:, None])[..., 0]
        return [row[longest - len(tail) :] for row, (_, tail) in zip(known.tolist(), rows, strict=True)]

    def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """[len(rows), longest] tokens, padded on the left, and the mask of what is no padding; on the device."""
        import torch

        width = max(map(len, rows))
        ids = torch.tensor([[self._pad] * (width - len(row)) + row for row in rows], device=self.model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=self.model.device)
        return ids, mask

    @property
    def _pad(self) -> int:
        ends = self.model.generation_config.eos_token_id
        known = (self.tokenizer.pad_token_id, ends[0] if isinstance(ends, list) else ends)
        return next((int(i) for i in known if i is not None), 0)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of a conversation up to where the answer begins: the template is markup, the contents are data."""
        if not getattr(self.tokenizer, "chat_template", None):
            text = "\n\n".join(message["content"].strip("\n") for message in messages) + "\n\n"
            return [*self._encoder.bos, *self._encoder.data(text)[0]]
        marks = [_MARK.format(i) for i in range(len(messages))]
        try:
            frame = self.tokenizer.apply_chat_template(
                [{"role": m["role"], "content": mark} for m, mark in zip(messages, marks, strict=True)],
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:  # a template is a program of its own, with errors of its own
            raise GeneratorError(f"{self.source.name}'s chat template refuses these messages: {error}") from error
        ids: list[int] = []
        for message, mark in zip(messages, marks, strict=True):
            before, found, frame = frame.partition(mark)
            if not found:
                raise GeneratorError(f"{self.source.name}'s chat template leaves out a {message['role']} message")
            ids += self._encoder.markup(before) + self._encoder.data(message["content"].strip("\n"))[0]
        return ids + self._encoder.markup(frame)


def _batches(lengths: Sequence[int], whole: int | None = None) -> Iterator[list[int]]:
    """Indices of rows, by falling length, so that little of a batch is padding.

    A row longer than `whole` stands alone: beside others it would be given their room, not its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        full = batch and lengths[batch[0]] * (len(batch) + 1) > _BATCH_TOKENS
        if full or (batch and whole is not None and lengths[batch[0]] > whole):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
