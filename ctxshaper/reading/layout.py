"""How passages and queries stand in front of a model: which tokens, at which positions, in which windows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.reading.locks import ForkSafeLock
from ctxshaper.reading.passage_tokens import Ids, PassageTokens, Tokens
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.row_weights import content
from ctxshaper.reading.store import KeyStore
from ctxshaper.text.tokenization import Encoder

# Passages end at this position and the query follows: every passage is equally near to the query, and its memory
# does not depend on the others. Set by hand: on HotpotQA ends at 512, 1,024 and 2,048 kept the evidence equally well.
_END = 2048
# Positions that are left to the query where the model sees few. Set by hand: HotpotQA's longest question has 60 tokens.
_QUERY_ROOM = 256
# Requests that are kept as they were prepared: a user's next question is mostly about the same passages.
_PREPARED = 8
# Fewest tokens of a window: with less, a passage would be read in more windows than it has sentences.
_LEAST_ROOM = 32


@dataclass(frozen=True, eq=False)
class Question:
    """A query as tokens in its frame.

    Attributes:
        ids: all tokens: the frame, the query, the frame.
        rows: which of them count: the query's own.
        counts: [R] how much each of these counts before rarity; they sum to 1.
        key: what its pass is known by.
    """

    ids: tuple[int, ...]
    rows: tuple[int, ...]
    counts: NDArray[np.float64]
    key: bytes


@dataclass(frozen=True, eq=False)
class Prepared:
    """The passages of one request as tokens.

    Attributes:
        passages: as they were given.
        texts: their sources, and their titles.
        tokens: one entry per passage.
        wanted: tokens of all windows by content key, each content once; windows without text are left out.
        lengths: how many tokens each has, by content key, sorted: the order of passages changes neither tables nor
            results.
    """

    passages: tuple[Passage | str, ...]
    texts: tuple[list[str], list[str]]
    tokens: Sequence[Tokens]
    wanted: Mapping[bytes, Ids]
    lengths: Mapping[bytes, int]


class Layout:
    """Turns passages and queries into tokens and positions for one model and one head profile. Thread-safe.

    Args:
        encoder: the model's tokenizer.
        profile: the prompt's texts.
        name: the model's, for errors.
        max_context: how many positions a token can see, or None for any number.
        fingerprint: what else shapes a memory: weights, tokenizer, type.
        max_tokens: the most tokens of passages in one request.
        store: keeps tokens on disk, or None.

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
        store: KeyStore | None = None,
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
        self._prepared: list[Prepared] = []  # the last one asked for first
        self._lock = ForkSafeLock()
        self._passages = PassageTokens(encoder, self._room, self.fingerprint, max_tokens, store)

    def query(self, query: str) -> tuple[list[int], list[int]]:
        """Tokens of the query in its frame, and which of them count: the query's own.

        Args:
            query: what is asked.

        Raises:
            InvalidInputError: an empty query, or one that does not fit behind the passages.
        """
        _refuse_empty(query)
        return self._framed(self.encoder.data(query)[0])

    def _framed(self, own: list[int]) -> tuple[list[int], list[int]]:
        ids = self._before + own + self._after
        if self.max_context is not None and len(ids) > self.max_context - self.end:
            room = self.max_context - self.end - len(ids) + len(own)
            raise InvalidInputError(
                f"the query has {len(own)} tokens; {self.name} takes at most {room} beside the passages"
            )
        rows = list(range(len(self._before), len(self._before) + len(own)))
        return ids, rows

    def question(self, query: str) -> Question:
        """A query in its frame, with how much each of its tokens counts by the profile's `rows`.

        Raises:
            InvalidInputError: as `query`.
        """
        _refuse_empty(query)
        own, offsets = self.encoder.data(query)
        ids, rows = self._framed(own)
        counts = np.ones(len(rows))
        if self._rows != "all":
            counts[: len(own)] = content(query, offsets)
        key = hashlib.blake2b(np.array([len(ids), *ids, *rows], dtype="<i4").tobytes(), digest_size=16).digest()
        return Question(tuple(ids), tuple(rows), counts / counts.sum(), key)

    def prompt(self, query: str, passages: Sequence[Passage]) -> tuple[list[int], list[tuple[int, int]], list[Tokens]]:
        """One causal prompt: its tokens, the range of each passage's own tokens in it, and the passages.

        Raises:
            InvalidInputError: a prompt longer than the model's context.
        """
        ids, ranges, read = list(self.prefix), [], []
        for passage in passages:
            one = self._passages.encode(passage)
            own = len(one.ids)
            ids += [*one.heading.tolist(), *one.ids.tolist()]
            ranges.append((len(ids) - own, len(ids)))
            ids += self.gap
            read.append(Tokens(one.offsets, ((0, own),), (), (), len(one.heading)))
        ids += self.query(query)[0]
        if self.max_context is not None and len(ids) > self.max_context:
            raise InvalidInputError(
                f"the prompt has {len(ids)} tokens, but {self.name} sees {self.max_context} at once; use fewer "
                "passages or independent reading"
            )
        return ids, ranges, read

    def passage(self, passage: Passage) -> Tokens:
        """A passage in windows that end where the query begins; see `passages`."""
        return self._passages.passages([passage])[0]

    def passages(self, passages: Sequence[Passage]) -> list[Tokens]:
        """Passages in windows that end where the query begins. What is known or stored is not tokenised again.

        Raises:
            InvalidInputError: far more text than a request may hold.
        """
        return self._passages.passages(passages)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the texts and tokens that are kept for the next request."""
        return self._passages.kept_bytes

    def prepare(self, passages: Sequence[Passage | str]) -> Prepared:
        """A request's passages as tokens; the same objects as lately are not looked at again.

        Raises:
            InvalidInputError: something that is no passage, far too long a one, or more tokens than `max_tokens`.
        """
        known = self._lately(passages)
        if known is not None:
            return known
        made = list(map(Passage.of, passages))
        texts = [one.source for one in made], [one.title for one in made]
        # The same texts in other objects: a pipeline numbers passages anew for each request. (Lists compare by identity
        # before content.)
        known = next((one for one in self._prepared if one.texts == texts), None)
        if known is not None:
            return self._first(known)
        tokens = self._passages.passages(made)
        wanted = {k: ids for one in tokens for k, ids in zip(one.keys, one.ids, strict=True) if len(ids) > one.heading}
        lengths = {key: len(wanted[key]) for key in sorted(wanted)}
        total = sum(lengths.values())
        if total > self.max_tokens:
            raise InvalidInputError(
                f"the passages have {total:,} tokens together; this reader takes at most {self.max_tokens:,} in one "
                "request: pass fewer passages, or raise max_tokens"
            )
        return self._first(Prepared(tuple(passages), texts, tokens, wanted, lengths))

    def _first(self, prepared: Prepared) -> Prepared:
        with self._lock:
            others = [one for one in self._prepared if one is not prepared]
            self._prepared = [prepared, *others[: _PREPARED - 1]]
        return prepared

    def _lately(self, passages: Sequence[Passage | str]) -> Prepared | None:
        # By identity, which is all that a request over thousands of passages has time for; passages do not change.
        for one in self._prepared:
            if len(one.passages) == len(passages) and all(map(is_, one.passages, passages)):
                return self._first(one)
        return None

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


def _refuse_empty(query: str) -> None:
    if not query.strip():
        raise InvalidInputError("the query is empty; pass the user's question")
