"""How passages and queries stand in front of a model: which tokens, at which positions, in which windows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.reading.memory import content_key
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.text.tokenization import Encoder

# Passages end at this position and the query follows: every passage is equally near to the query, and its memory
# does not depend on the others. Measured on HotpotQA, ends at 512, 1,024 and 2,048 did equally well.
_END = 2048
_QUERY_ROOM = 256
_OVERLAP = 128
_HEADING = 64
# Characters of passages whose tokens are kept: some 50 MB.
_KEPT_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class Tokens:
    """A passage as tokens: its windows, and where each window's tokens lie in its source.

    Attributes:
        offsets: [n, 2] of the source's tokens.
        windows: token ranges, overlapping.
        ids: by window, with the heading in front.
        keys: by window, what its memory is known by.
        heading: tokens of the heading.
    """

    offsets: NDArray[np.int64]
    windows: tuple[tuple[int, int], ...]
    ids: tuple[tuple[int, ...], ...]
    keys: tuple[bytes, ...]
    heading: int


class Layout:
    """Turns passages and queries into tokens and positions for one model and one head profile.

    Args:
        encoder: the model's tokenizer.
        profile: the prompt's texts.
        name: the model's, for errors.
        reach: how many positions a token can see, or None for any number.
        fingerprint: what else shapes a memory: model, revision, layers, type.
        max_tokens: the most tokens of passages in one request.

    Raises:
        ModelError: a reach too short to read anything.
    """

    def __init__(
        self,
        encoder: Encoder,
        profile: HeadProfile,
        name: str,
        *,
        reach: int | None,
        fingerprint: tuple[object, ...],
        max_tokens: int,
    ) -> None:
        self.encoder, self.name, self.reach, self.max_tokens = encoder, name, reach, max_tokens
        self.prefix = encoder.bos + encoder.markup(profile.prefix)
        self.gap = encoder.markup("\n\n")
        self._before, self._after = encoder.markup(profile.before_query), encoder.markup(profile.after_query)
        self.end = _END if reach is None else min(_END, reach - _QUERY_ROOM)
        if self.end < len(self.prefix) + 2:
            raise ModelError(f"{name} sees only {reach} positions, too few to read passages with")
        self._fingerprint = repr((*fingerprint, self.end, self.prefix)).encode()
        self._known: OrderedDict[tuple[str, str], Tokens] = OrderedDict()
        self._characters = 0
        self._lock = threading.Lock()

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
        if self.reach is not None and len(ids) > self.reach - self.end:
            room = self.reach - self.end - len(ids) + len(own)
            raise InvalidInputError(
                f"the query has {len(own)} tokens; {self.name} takes at most {room} beside the passages"
            )
        rows = list(range(len(self._before), len(self._before) + len(own)))
        return ids, [*rows, len(ids) - 1] if hint else rows

    def prompt(self, query: str, passages: Sequence[Passage]) -> tuple[list[int], list[tuple[int, int]], list[Tokens]]:
        """One causal prompt: its tokens, the range of each passage's own tokens in it, and the passages.

        Raises:
            InvalidInputError: a prompt beyond the model's reach.
        """
        ids, ranges, read = list(self.prefix), [], []
        for passage in passages:
            heading, own, offsets = self._encode(passage)
            ids += heading + own
            ranges.append((len(ids) - len(own), len(ids)))
            ids += self.gap
            read.append(Tokens(offsets, ((0, len(own)),), (), (), len(heading)))
        ids += self.query(query)[0]
        if self.reach is not None and len(ids) > self.reach:
            raise InvalidInputError(
                f"the prompt has {len(ids)} tokens, but {self.name} sees {self.reach} at once; use fewer passages or "
                "independent reading"
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
        heading, ids, offsets = self._encode(passage)
        room = self.end - len(self.prefix) - len(heading)
        windows = [(0, min(len(ids), room))]
        while windows[-1][1] < len(ids):
            start = windows[-1][1] - min(_OVERLAP, room // 4)
            windows.append((start, min(len(ids), start + room)))
        pieces = tuple((*heading, *ids[a:b]) for a, b in windows)
        keys = tuple(content_key(self._fingerprint, piece) for piece in pieces)
        made = Tokens(offsets, tuple(windows), pieces, keys, len(heading))
        with self._lock:
            if name not in self._known:
                self._known[name] = made
                self._characters += len(passage.source)
            while self._characters > _KEPT_CHARACTERS:
                (_, source), _ = self._known.popitem(last=False)
                self._characters -= len(source)
        return made

    def _encode(self, passage: Passage) -> tuple[list[int], list[int], NDArray[np.int64]]:
        """Tokens of the heading and of the source, and the offsets of the latter."""
        if len(passage.source) > 32 * self.max_tokens:
            raise InvalidInputError(
                f"a passage has {len(passage.source):,} characters; this reader takes at most {self.max_tokens:,} "
                "tokens in one request: split the passage, or raise max_tokens"
            )
        heading = self.encoder.data(passage.title + "\n")[0][:_HEADING] if passage.title else []
        return heading, *self.encoder.data(passage.source)

    def joined(self, tokens: Tokens, found: dict[bytes, NDArray[np.float32]]) -> NDArray[np.float32]:
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
