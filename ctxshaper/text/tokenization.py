"""Tokens of text that is data: special tokens spelled out in it are plain characters; every token knows its span."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper.errors import InvalidInputError, ModelError

_SURROGATES = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    """The text with lone surrogates, which no encoding holds, replaced one for one: offsets stay."""
    return _SURROGATES.sub("\ufffd", text)


class Encoder:
    """A fast tokenizer that is safe to share between threads: nothing in it is changed after it is made.

    (`tokenizer(...)` of transformers sets truncation and padding on the shared object, which is what raises
    "Already borrowed" under threads.)

    Args:
        tokenizer: a fast tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        from tokenizers import Tokenizer

        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"{type(tokenizer).__name__} is no fast tokenizer, so tokens cannot be mapped to characters; "
                "use a model with a tokenizer.json"
            )
        serialized = json.loads(backend.to_str())
        serialized["truncation"] = serialized["padding"] = None
        self._markup: Any = Tokenizer.from_str(json.dumps(serialized))
        self._data: Any = Tokenizer.from_str(json.dumps(serialized))
        self._data.encode_special_tokens = True
        bos = getattr(tokenizer, "bos_token_id", None)
        # Only a model that puts this token in front of every text by itself was trained to see it there.
        adds_bos = bos is not None and self._markup.encode("a").ids[:1] == [bos]
        self.bos: list[int] = [int(bos)] if bos is not None and adds_bos else []

    def markup(self, text: str) -> list[int]:
        """Tokens of the project's own prompt text, in which special tokens count as such."""
        return self.markup_offsets(text)[0]

    def markup_offsets(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        """The same, with [n, 2] character offsets, half-open: where a word of a prompt's frame begins in tokens."""
        encoding = self._markup.encode(text, add_special_tokens=False)
        return list(encoding.ids), np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)

    def data(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        """Tokens of somebody's text.

        Returns:
            ids, and [n, 2] character offsets, half-open.
        """
        encoding = self._data.encode(encodable(text), add_special_tokens=False)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return list(encoding.ids), offsets

    def count(self, text: str) -> int:
        """Number of tokens of somebody's text."""
        return len(self._data.encode(encodable(text), add_special_tokens=False).ids)


def token_counter(tokenizer: Any) -> Callable[[str], int]:
    """How a generator counts tokens.

    Args:
        tokenizer: a callable from text to a number, a tokenizer of transformers or tokenizers, or an encoding of
            tiktoken.

    Raises:
        InvalidInputError: for anything else.
    """
    if hasattr(tokenizer, "backend_tokenizer"):
        return Encoder(tokenizer).count
    if hasattr(tokenizer, "encode_ordinary"):  # tiktoken
        return lambda text: len(tokenizer.encode_ordinary(encodable(text)))
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "to_str"):  # tokenizers.Tokenizer
        return lambda text: len(tokenizer.encode(encodable(text), add_special_tokens=False).ids)
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "decode"):  # a slow tokenizer of transformers
        return lambda text: len(tokenizer.encode(encodable(text), add_special_tokens=False))
    if callable(tokenizer):
        return lambda text: int(tokenizer(encodable(text)))
    raise InvalidInputError(
        f"cannot count tokens with {type(tokenizer).__name__}; pass a tokenizer of transformers, tokenizers or "
        "tiktoken, or a function from text to a number"
    )
