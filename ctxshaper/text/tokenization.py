"""Tokens of text that is data: control tokens spelled out in it are plain characters; every token knows its span."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.text.remembered import Lately

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Bytes of the texts whose tokens were counted, with so many for each entry; longer texts are known by a hash.
_COUNTED_BYTES, _ENTRY_BYTES, _LONG = 2**26, 200, 400
_SURROGATES = re.compile("[\ud800-\udfff]")
# Gemma's added tokens that are ordinary text, as are runs of white space: it was trained to see each as one token.
_HTML = re.compile(r"</?(?:table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|s|sub|sup|code)>")


def encodable(text: str) -> str:
    """The text with lone surrogates, which no encoding holds, replaced one for one: offsets stay."""
    # Most text is ASCII, which a str knows of itself.
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


class Encoder:
    """A fast tokenizer that is safe to share between threads: nothing in it is changed after it is made.

    It is a copy, without truncation and padding. (`tokenizer(...)` of transformers sets both on the shared object,
    which is what raises "Already borrowed" under threads.)

    Args:
        tokenizer: a fast tokenizer of transformers, or one of tokenizers.

    Raises:
        ModelError: it is neither, so that tokens cannot be mapped to characters.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(backend, "to_str"):
            raise ModelError(
                f"{type(tokenizer).__name__} is no fast tokenizer, so tokens cannot be mapped to characters; "
                "use a model with a tokenizer.json"
            )
        self._make(backend.to_str())
        bos = getattr(tokenizer, "bos_token_id", None)
        # Only a model that puts this token in front of every text by itself was trained to see it there.
        adds_bos = bos is not None and self._markup.encode("a").ids[:1] == [bos]
        self.bos: list[int] = [int(bos)] if bos is not None and adds_bos else []

    def _make(self, serialized: str) -> None:
        from tokenizers import Tokenizer

        description = json.loads(serialized)
        description["truncation"] = description["padding"] = None
        self._markup: Any = Tokenizer.from_str(json.dumps(description))
        # What is declared special here is plain characters below; the ids and all else stay as they are.
        for token in description.get("added_tokens") or []:
            token["special"] = token["special"] or is_control(token["content"])
        self._data: Any = Tokenizer.from_str(json.dumps(description))
        self._data.encode_special_tokens = True
        self._counts: Lately[str | bytes, int] = Lately(_COUNTED_BYTES)

    def __getstate__(self) -> dict[str, Any]:
        return {"tokenizer": self._markup.to_str(), "bos": self.bos}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._make(state["tokenizer"])
        self.bos = state["bos"]

    def markup(self, text: str) -> list[int]:
        """Tokens of the project's own prompt text, in which control tokens count as such."""
        return self.markup_offsets(text)[0]

    def markup_offsets(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        """The same, with [n, 2] character offsets, half-open: where a word of a prompt's frame begins in tokens."""
        return _with_offsets(self._markup.encode(text, add_special_tokens=False))

    def data(self, text: str) -> tuple[list[int], NDArray[np.int64]]:
        """Tokens of somebody's text.

        Returns:
            ids, and [n, 2] character offsets, half-open.
        """
        return _with_offsets(self._data.encode(encodable(text), add_special_tokens=False))

    def count(self, text: str) -> int:
        """Number of tokens of somebody's text."""
        # A request counts the same texts as the one before it: all that was retrieved, and single sentences.
        long = len(text) > _LONG
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() if long else text
        cost = _ENTRY_BYTES + (0 if long else len(text))
        count = self._counts.get(key, cost)
        if count is None:
            # The fast one finds no offsets, which nobody asked for.
            count = len(self._data.encode_batch_fast([encodable(text)], add_special_tokens=False)[0])
            self._counts.put(key, count, cost)
        return count


def is_control(content: str) -> bool:
    """Whether an added token looks like one that steers the model, declared special or not.

    That is a word in angle or square brackets: <think>, </tool_call>, [TOOL_CALLS], <|fim_prefix|>. HTML is text.
    """
    bare = content.strip()
    bracketed = bare[:1] + bare[-1:] in ("<>", "[]") and any(map(str.isalnum, bare))
    return bracketed and not _HTML.fullmatch(bare)


@dataclass(frozen=True, slots=True)
class FunctionCount:
    """Counts with a function of the user's, from text to a number."""

    function: Callable[[str], int]

    def __call__(self, text: str) -> int:
        """Number of tokens."""
        return int(self.function(encodable(text)))


@dataclass(frozen=True, slots=True)
class TiktokenCount:
    """Counts with an encoding of tiktoken; special tokens spelled out in the text are plain characters."""

    encoding: Any

    def __call__(self, text: str) -> int:
        """Number of tokens."""
        return len(self.encoding.encode_ordinary(encodable(text)))


@dataclass(frozen=True, slots=True)
class SlowCount:
    """Counts with a slow tokenizer of transformers, whatever truncation and padding it is set to."""

    tokenizer: Any

    def __call__(self, text: str) -> int:
        """Number of tokens."""
        return len(self.tokenizer.encode(encodable(text), add_special_tokens=False, truncation=False, padding=False))


def token_counter(tokenizer: Any) -> Callable[[str], int]:
    """How a generator counts tokens: the true number, whatever truncation or padding its tokenizer is set to.

    Args:
        tokenizer: a callable from text to a number, a tokenizer of transformers or tokenizers, or an encoding of
            tiktoken. It is not changed.

    Returns:
        A function that can be pickled (where the tokenizer or function can) and used from many threads.

    Raises:
        InvalidInputError: for anything else.
    """
    if hasattr(tokenizer, "backend_tokenizer") or (hasattr(tokenizer, "encode") and hasattr(tokenizer, "to_str")):
        return Encoder(tokenizer).count
    if hasattr(tokenizer, "encode_ordinary"):
        return TiktokenCount(tokenizer)
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "decode"):
        return SlowCount(tokenizer)
    if callable(tokenizer):
        return FunctionCount(tokenizer)
    raise InvalidInputError(
        f"cannot count tokens with {type(tokenizer).__name__}; pass a tokenizer of transformers, tokenizers or "
        "tiktoken, or a function from text to a number"
    )


def _with_offsets(encoding: Any) -> tuple[list[int], NDArray[np.int64]]:
    import numpy as np

    return list(encoding.ids), np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
