"""How passages and queries stand in front of a model: which tokens, at which positions, in which windows."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.row_weights import content
from ctxshaper.text.tokenization import Encoder

# Passages end at this position and the query follows: every passage is equally near to the query, and its memory
# does not depend on the others. Set by hand: on HotpotQA ends at 512, 1,024 and 2,048 kept the evidence equally well.
_END = 2048
# Positions that are left to the query where the model sees few. Set by hand: HotpotQA's longest question has 60 tokens.
_QUERY_ROOM = 256
# Tokens that two windows of a long passage share, so that a sentence at a border is whole in one of them. Set by hand:
# longer than nearly every sentence.
_OVERLAP = 128
# Most tokens of a title; what is longer is no title.
_HEADING = 64
# Fewest tokens of a window: with less, a passage would be read in more windows than it has sentences.
_LEAST_ROOM = 32
# Bytes of the tokens that are kept beside the memories: some two million tokens.
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


@dataclass(frozen=True, eq=False)
class Question:
    """A query as tokens in its frame.

    Attributes:
        ids: all tokens: the frame, the query, the frame, a hint.
        rows: which of them count: the query's own, and the last of a hint.
        counts: [R] how much each of these counts before rarity; they sum to 1.
        key: what its pass is known by.
    """

    ids: tuple[int, ...]
    rows: tuple[int, ...]
    counts: NDArray[np.float64]
    key: bytes


class Layout:
    """Turns passages and queries into tokens and positions for one model and one head profile. Thread-safe.

    Args:
        encoder: the model's tokenizer.
        profile: the prompt's texts.
        name: the model's, for errors.
        max_context: how many positions a token can see, or None for any number.
        fingerprint: what else shapes a memory: weights, tokenizer, type.
        max_tokens: the most tokens of passages in one request.

    Attributes:
        prefix: tokens in front of every passage.
        end: the position behind a passage's last token, where the query begins.
        gap: tokens between passages in one prompt.
        fingerprint: all that shapes a memory beside the passage.

    Raises:
        ModelError: a context too short to read anything behind the profile's prefix.
    """

    def __init__(
        self,
        encoder: Encoder,
        profile: HeadProfile,
        name: str,
        *,
        max_context: int | None,
        fingerprint: tuple[object, ...],
        max_tokens: int,
    ) -> None:
        self.encoder, self.name, self.max_context, self.max_tokens = encoder, name, max_context, max_tokens
        self.prefix = encoder.bos + encoder.markup(profile.prefix)
        self._rows = profile.rows
        self.gap = encoder.markup("\n\n")
        self._before, self._after = encoder.markup(profile.before_query), encoder.markup(profile.after_query)
        self.end = _END if max_context is None else min(_END, max_context - _QUERY_ROOM)
        self._room = self.end - len(self.prefix)
        if self._room < _LEAST_ROOM:
            sees = "any number of positions" if max_context is None else f"only {max_context} positions"
            raise ModelError(
                f"{name} sees {sees}, passages end at {self.end}, and the profile's prefix takes {len(self.prefix)}: "
                f"fewer than {_LEAST_ROOM} are left for a passage. Use a model with a longer context, or a shorter "
                "prefix"
            )
        self.fingerprint = repr((*fingerprint, self.end, self.prefix)).encode()
        self._known: OrderedDict[tuple[str, str], Tokens] = OrderedDict()
        self._bytes = 0
        self._lock = ForkSafeLock()

    @property
    def kept_bytes(self) -> int:
        """Bytes of the texts and tokens that are kept for the next request."""
        return self._bytes

    def query(self, query: str, hint: str = "") -> tuple[list[int], list[int]]:
        """Tokens of the query in its frame, and which of them count: the query's own, and the last of a hint.

        Args:
            query: what is asked.
            hint: how an answer begins; stands last.

        Raises:
            InvalidInputError: an empty query, or one that does not fit behind the passages.
        """
        if not query.strip():
            raise InvalidInputError("the query is empty; pass the user's question")
        own, _ = self.encoder.data(query)
        ids = self._before + own + self._after + self.encoder.data(hint)[0]
        if self.max_context is not None and len(ids) > self.max_context - self.end:
            room = self.max_context - self.end - len(ids) + len(own)
            raise InvalidInputError(
                f"the query has {len(own)} tokens; {self.name} takes at most {room} beside the passages"
            )
        rows = list(range(len(self._before), len(self._before) + len(own)))
        return ids, [*rows, len(ids) - 1] if hint else rows

    def question(self, query: str, hint: str = "") -> Question:
        """A query in its frame, with how much each of its tokens counts by the profile's `rows`.

        Raises:
            InvalidInputError: as `query`.
        """
        ids, rows = self.query(query, hint)
        counts = np.ones(len(rows))
        if self._rows != "all":
            own = content(query, self.encoder.data(query)[1])
            counts[: len(own)] = own
        key = hashlib.blake2b(np.array([len(ids), *ids, *rows], dtype="<i4").tobytes(), digest_size=16).digest()
        return Question(tuple(ids), tuple(rows), counts / counts.sum(), key)

    def prompt(self, query: str, passages: Sequence[Passage]) -> tuple[list[int], list[tuple[int, int]], list[Tokens]]:
        """One causal prompt: its tokens, the range of each passage's own tokens in it, and the passages.

        Raises:
            InvalidInputError: a prompt longer than the model's context.
        """
        ids, ranges, read = list(self.prefix), [], []
        for passage in passages:
            heading, own, offsets = self._encode(passage)
            ids += heading + own
            ranges.append((len(ids) - len(own), len(ids)))
            ids += self.gap
            read.append(Tokens(offsets, ((0, len(own)),), (), (), len(heading)))
        ids += self.query(query)[0]
        if self.max_context is not None and len(ids) > self.max_context:
            raise InvalidInputError(
                f"the prompt has {len(ids)} tokens, but {self.name} sees {self.max_context} at once; use fewer "
                "passages or independent reading"
            )
        return ids, ranges, read

    def passage(self, passage: Passage) -> Tokens:
        """A passage in windows that end where the query begins.

        Raises:
            InvalidInputError: far more text than a request may hold.
        """
        name = (passage.title or "", passage.source)
        with self._lock:
            known = self._known.get(name)
            if known is not None:
                self._known.move_to_end(name)
                return known
        heading, own, offsets = self._encode(passage)
        ids = np.array(own, dtype=np.int32)
        # A window always holds text: `_room` is at least `_LEAST_ROOM`, and a heading takes at most half of it.
        room = self._room - len(heading)
        windows = [(0, min(len(ids), room))]
        while windows[-1][1] < len(ids):
            start = windows[-1][1] - min(_OVERLAP, room // 4)
            windows.append((start, min(len(ids), start + room)))
        front = np.array(heading, dtype=np.int32)
        pieces = tuple(np.concatenate((front, ids[a:b])) for a, b in windows)
        keys = tuple(content_key(self.fingerprint, piece) for piece in pieces)
        made = Tokens(offsets, tuple(windows), pieces, keys, len(heading))
        with self._lock:
            if name not in self._known:
                self._known[name] = made
                self._bytes += _bytes_of(name, made)
            while self._bytes > _KEPT_BYTES:
                oldest, tokens = self._known.popitem(last=False)
                self._bytes -= _bytes_of(oldest, tokens)
        return made

    def wanted(self, requests: Sequence[Sequence[Tokens]]) -> dict[bytes, Ids]:
        """Tokens of all windows by content key, each content once; windows without text are left out.

        Raises:
            InvalidInputError: a request with more tokens than `max_tokens`.
        """
        together: dict[bytes, Ids] = {}
        for tokens in requests:
            own = {k: ids for one in tokens for k, ids in zip(one.keys, one.ids, strict=True) if len(ids) > one.heading}
            total = sum(map(len, own.values()))
            if total > self.max_tokens:
                raise InvalidInputError(
                    f"the passages have {total:,} tokens together; this reader takes at most {self.max_tokens:,} in "
                    "one request: pass fewer passages, or raise max_tokens"
                )
            together |= own
        return together

    def _encode(self, passage: Passage) -> tuple[list[int], list[int], NDArray[np.int64]]:
        """Tokens of the heading and of the source, and the offsets of the latter."""
        if len(passage.source) > 32 * self.max_tokens:
            raise InvalidInputError(
                f"a passage has {len(passage.source):,} characters; this reader takes at most {self.max_tokens:,} "
                "tokens in one request: split the passage, or raise max_tokens"
            )
        heading: list[int] = []
        if passage.title:
            most = min(_HEADING, self._room // 2)
            # Long before the tokens end the characters may: nothing of a long title is tokenised in vain.
            heading = self.encoder.data(passage.title[: 32 * most] + "\n")[0][:most]
        return heading, *self.encoder.data(passage.source)

    def joined(self, tokens: Tokens, found: Mapping[bytes, NDArray[np.float32]]) -> NDArray[np.float32]:
        """[n] scores of a passage's tokens from those of its windows: the mean where windows overlap."""
        if len(tokens.keys) == 1 and tokens.keys[0] in found:
            return found[tokens.keys[0]][tokens.heading :]
        total, seen = np.zeros(len(tokens.offsets)), np.zeros(len(tokens.offsets))
        for (start, end), key in zip(tokens.windows, tokens.keys, strict=True):
            if end > start:
                total[start:end] += found[key][tokens.heading :]
                seen[start:end] += 1
        scores: NDArray[np.float32] = (total / np.maximum(seen, 1)).astype(np.float32)
        return scores


def content_key(fingerprint: bytes, ids: Ids) -> bytes:
    """The key of a passage's memory: a hash over what shaped it and over its tokens."""
    digest = hashlib.blake2b(fingerprint, digest_size=16)
    digest.update(ids.astype("<i4").tobytes())
    return digest.digest()


def _bytes_of(name: tuple[str, str], tokens: Tokens) -> int:
    return sum(map(sys.getsizeof, name)) + tokens.nbytes
