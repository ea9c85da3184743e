"""What a language model's next word would rest on: the attention of the focal token (arXiv 2503.10720)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.models.chat import user_turn
from ctxshaper.models.decoder import pick_device, pick_dtype
from ctxshaper.models.loading import load_lm, load_tokenizer, resolve_lm
from ctxshaper.reading.reading import PassageReading
from ctxshaper.text.tokenization import Encoder

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
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32".

    Raises:
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(self, model: str | Path | None = None, *, device: str = "auto", dtype: str = "auto") -> None:
        self.source = resolve_lm(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self._lock = threading.RLock()

    @cached_property
    def _tokenizer(self) -> Any:
        with self._lock:
            return load_tokenizer(self.source)

    @cached_property
    def encoder(self) -> Encoder:
        """The model's tokenizer, safe to share."""
        with self._lock:
            return Encoder(self._tokenizer)

    @cached_property
    def model(self) -> Any:
        """The language model with its head, loaded at first use."""
        with self._lock:
            model = load_lm(self.source, dtype=self.dtype, head=True).to(self.device)
            # The fused kinds of attention give no weights.
            model.set_attn_implementation("eager")
            return model

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
        ids: list[int] = []
        rows: list[tuple[int, NDArray[np.int64]]] = []
        for passage in map(Passage.of, passages):
            heading = f"\n\n{passage.title}\n" if passage.title else "\n\n"
            ids += self.encoder.data(heading if ids else heading.lstrip("\n"))[0]
            own, offsets = self.encoder.data(passage.source)
            rows.append((len(ids), offsets))
            ids += own
        before, after = self._frame(query, hint)
        limit = int(getattr(self.model.config, "max_position_embeddings", 0) or 2**31)
        if (longest := len(before) + min(chunk, len(ids)) + len(after)) > limit - len(NONE):
            raise InvalidInputError(
                f"query, hint and a chunk of {chunk} tokens make a prompt of {longest}, but {self.source.name} sees "
                f"{limit} at once; use smaller chunks or a shorter query"
            )
        starts = range(0, len(ids), chunk)
        with self._lock:
            found = [self._watch(before, ids[start : start + chunk], after) for start in starts]
        scores = np.concatenate([s for _, s in found]) if found else np.zeros(0, np.float32)
        if not np.isfinite(scores).all():
            raise ModelError("the model gave attention that is not a number; use dtype='float32'")
        return FocalReading(
            tuple(PassageReading(offsets, scores[at : at + len(offsets)]) for at, offsets in rows),
            tuple(np.arange(at, at + len(offsets)) // chunk for at, offsets in rows),
            tuple(focal for focal, _ in found),
            int(self.model.config.num_hidden_layers),
        )

    def _frame(self, query: str, hint: str) -> tuple[list[int], list[int]]:
        """Tokens before a chunk, and behind it up to where the focal token comes."""
        before, after = user_turn(self._tokenizer, self.source.name)
        opening = self.encoder.markup(before)
        bos = self.encoder.bos if opening[:1] != self.encoder.bos else []
        wish = (
            f'\n\nBegin the answer with "{hint}" and complete it. If the text does not help with the question, '
            f'complete it with "{NONE}".\n\nQuestion: {query}'
        )
        head = bos + opening + self.encoder.data(_TASK)[0]
        return head, self.encoder.data(wish)[0] + self.encoder.markup(after) + self.encoder.data(hint)[0]

    @torch.inference_mode()
    def _watch(
        self, before: Sequence[int], chunk: Sequence[int], after: Sequence[int]
    ) -> tuple[Focal, NDArray[np.float32]]:
        """The focal token of one chunk, and [len(chunk)] what each of its tokens receives from it."""
        prompt = torch.tensor([[*before, *chunk, *after]], device=self.device)
        out = self.model(input_ids=prompt, use_cache=True, logits_to_keep=1)
        # A token has a row of attention only once it is read itself.
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        out = self.model(input_ids=token, past_key_values=out.past_key_values, use_cache=True, output_attentions=True)
        own = slice(len(before), len(before) + len(chunk))
        scores = torch.stack([layer[0, :, 0, own].float().mean(0) for layer in out.attentions]).sum(0)
        tokens = [int(token)]
        # "none" may be several tokens, and "no" or "north" may begin like it.
        while NONE.startswith(text := self._tokenizer.decode(tokens).strip().casefold()) and text != NONE:
            if len(tokens) > len(NONE):
                break
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            tokens.append(int(token))
            out = self.model(input_ids=token, past_key_values=out.past_key_values, use_cache=True)
        focal = Focal(str(self._tokenizer.decode(tokens[:1])), text.startswith(NONE))
        return focal, scores.cpu().numpy()
