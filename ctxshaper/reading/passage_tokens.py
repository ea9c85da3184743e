"""Passages as tokens in windows: remembered in memory, and on disk if there is a store."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage, deadline
from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.store import KeyStore
from ctxshaper.reading.token_store import Encoded, TokenStore
from ctxshaper.text.structures.html_tree import runs
from ctxshaper.text.tokenization import Encoder

# Tokens that two windows of a long passage share, so that a sentence at a border is whole in one of them. Set by hand:
# longer than nearly every sentence.
_OVERLAP = 128
# Most tokens of a title; what is longer is no title.
_HEADING = 64
# Bytes of the tokens that are kept beside the keys: some two million tokens.
_KEPT_BYTES = 2**26

Ids = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Tokens:
    """A passage as tokens: its windows, and where each window's tokens lie in its source.

    Attributes:
        offsets: [n, 2] character offsets of the source's tokens, half-open.
        windows: token ranges, overlapping.
        ids: by window, [heading + tokens] with the heading in front.
        keys: by window, what its memory is known by.
        heading: number of tokens of the heading.
    """

    offsets: NDArray[np.int64]
    windows: tuple[tuple[int, int], ...]
    ids: tuple[Ids, ...]
    keys: tuple[bytes, ...]
    heading: int

    @property
    def nbytes(self) -> int:
        """Bytes that its arrays hold."""
        return self.offsets.nbytes + sum(ids.nbytes for ids in self.ids)


class PassageTokens:
    """Tokenises passages and cuts them into windows. Thread-safe; what was tokenised lately is not tokenised again.

    Args:
        encoder: the model's tokenizer.
        room: tokens of a window, heading included; at least 2.
        fingerprint: what shapes a window's keys beside its tokens.
        max_tokens: the most tokens of a passage.
        store: keeps tokens on disk, or None.
    """

    def __init__(
        self, encoder: Encoder, room: int, fingerprint: bytes, max_tokens: int, store: KeyStore | None
    ) -> None:
        self._encoder, self._room, self._fingerprint, self._max_tokens = encoder, room, fingerprint, max_tokens
        self._most = min(_HEADING, room // 2)
        self._tokens = None
        if store is not None:
            # The tokenizer as it is, not the model's name: two may share their weights and tokenise otherwise.
            tokenizer = hashlib.blake2b(encoder.__getstate__()["tokenizer"].encode(), digest_size=16).digest()
            self._tokens = TokenStore(store, tokenizer + bytes([self._most]))
        self._known: OrderedDict[tuple[str, str], Tokens] = OrderedDict()
        self._bytes = 0
        self._lock = ForkSafeLock()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the texts and tokens that are kept for the next request."""
        return self._bytes

    def passages(self, passages: Sequence[Passage]) -> list[Tokens]:
        """Passages in windows that end where the query begins. What is known or stored is not tokenised again.

        Raises:
            InvalidInputError: far more text than a request may hold.
        """
        names = [(passage.title or "", passage.source) for passage in passages]
        with self._lock:
            found = {name: self._known[name] for name in names if name in self._known}
            for name in found:
                self._known.move_to_end(name)
        new = {name: passage for name, passage in zip(names, passages, strict=True) if name not in found}
        if new:
            made = dict(zip(new, map(self._windows, self._encoded(list(new.values()))), strict=True))
            self._remember(made)
            found |= made
        return [found[name] for name in names]

    def _remember(self, made: Mapping[tuple[str, str], Tokens]) -> None:
        with self._lock:
            for name, tokens in made.items():
                if name not in self._known:
                    self._known[name] = tokens
                    self._bytes += _bytes_of(name, tokens)
            while self._bytes > _KEPT_BYTES:
                oldest, tokens = self._known.popitem(last=False)
                self._bytes -= _bytes_of(oldest, tokens)

    def _windows(self, encoded: Encoded) -> Tokens:
        heading, ids = encoded.heading, encoded.ids
        # A window always holds text: `_room` is at least `_LEAST_ROOM`, and a heading takes at most half of it.
        room = self._room - len(heading)
        windows = [(0, min(len(ids), room))]
        while windows[-1][1] < len(ids):
            start = windows[-1][1] - min(_OVERLAP, room // 4)
            windows.append((start, min(len(ids), start + room)))
        pieces = tuple(np.concatenate((heading, ids[a:b])) for a, b in windows)
        keys = tuple(content_key(self._fingerprint, piece) for piece in pieces)
        return Tokens(encoded.offsets, tuple(windows), pieces, keys, len(heading))

    def _encoded(self, passages: Sequence[Passage]) -> list[Encoded]:
        stored = self._tokens.get_many(passages) if self._tokens else [None] * len(passages)
        encoded = [one or self.encode(passage) for one, passage in zip(stored, passages, strict=True)]
        new = [at for at, one in enumerate(stored) if one is None]
        if self._tokens and new:
            self._tokens.put_many([passages[at] for at in new], [encoded[at] for at in new])
        return encoded

    def _seen(self, passage: Passage) -> tuple[list[int], NDArray[np.int64]]:
        """Tokens of what a reader sees of a passage, with the ranges of the source that they stand for."""
        if passage.format != "html":
            return self._encoder.data(passage.source)
        pieces = list(runs(passage.source))
        ids, offsets = self._encoder.data("".join(text for text, _, _ in pieces))
        if not ids:
            return ids, offsets
        starts, ends = _places(pieces)
        # A token without characters of its own stands where it stands.
        last = np.maximum(offsets[:, 1] - 1, offsets[:, 0]).clip(max=len(starts) - 1)
        return ids, np.stack((starts[offsets[:, 0].clip(max=len(starts) - 1)], ends[last]), 1)

    def encode(self, passage: Passage) -> Encoded:
        """A passage's tokens, whole.

        Raises:
            DeadlineError: the request's time is over.
            InvalidInputError: far more text than a request may hold.
        """
        deadline.check()
        if len(passage.source) > 32 * self._max_tokens:
            name = repr(passage.id or passage.title or "without an id")
            raise InvalidInputError(
                f"the passage {name:.200} has {len(passage.source):,} characters; this reader takes at most "
                f"{self._max_tokens:,} tokens in one request: split the passage, or raise max_tokens"
            )
        heading: list[int] = []
        if passage.title:
            # Long before the tokens end the characters may: nothing of a long title is tokenised in vain.
            heading = self._encoder.data(passage.title[: 32 * self._most] + "\n")[0][: self._most]
        ids, offsets = self._seen(passage)
        return Encoded(np.array(heading, dtype=np.int32), np.array(ids, dtype=np.int32), offsets)


def _places(pieces: Sequence[tuple[str, int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each character of pieces, one after the other, where what it stands for starts and ends in the source."""
    lengths = np.array([len(text) for text, _, _ in pieces])
    starts, ends = (np.array([piece[side] for piece in pieces], dtype=np.int64) for side in (1, 2))
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    alike = np.repeat(ends - starts == lengths, lengths)
    first, last = np.repeat(starts, lengths), np.repeat(ends, lengths)
    return np.where(alike, first + within, first), np.where(alike, first + within + 1, last)


def content_key(fingerprint: bytes, ids: Ids) -> bytes:
    """The key of a passage's memory: a hash over what shaped it and over its tokens."""
    digest = hashlib.blake2b(fingerprint, digest_size=16)
    digest.update(ids.astype("<i4").tobytes())
    return digest.digest()


def _bytes_of(name: tuple[str, str], tokens: Tokens) -> int:
    return sum(map(sys.getsizeof, name)) + tokens.nbytes
