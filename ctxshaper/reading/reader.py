"""Scores passages token by token with a language model's early layers; passages are read once, for all queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.models.decoder import Decoder
from ctxshaper.models.finding import ModelSource
from ctxshaper.reading.evidence import partial_evidence, query_rows, read_evidence, read_evidence_rows, read_heads
from ctxshaper.reading.gem import read_gem_alone, read_gem_prompt
from ctxshaper.reading.key_memory import KeyMemory
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.layout import Layout
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.reader_model import ReaderModel
from ctxshaper.reading.reading import Reading, Remembered, Screening
from ctxshaper.reading.remembering import remember
from ctxshaper.reading.scoring import Partial
from ctxshaper.reading.screening import screen_passages
from ctxshaper.reading.store import KeyStore
from ctxshaper.text.tokenization import Encoder


class Reader:
    """Scores every token of a set of passages for a query, by the attention of a small language model. Thread-safe.

    Only the model's first layers run. Each passage is read by itself behind a short prefix, once: its keys at the
    heads that count are remembered in 8 bits, and kept on disk if a store is given. A query runs through the same
    layers seeing the prefix and itself alone; at those heads its rows are then held against the keys of all passages,
    in one softmax. So a query costs a pass over its own tokens and one product with the keys, however many passages
    there are, and the scores do not depend on the order of passages.

    A reader pickles and copies as its arguments: the copy loads the model at its own first use and has read nothing.
    A forked child may go on with the parent's reader; torch then runs on one thread there, because OpenMP's threads do
    not survive a fork.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        profile: which heads count; a `HeadProfile`, a path to one, or None for the shipped or automatic one.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32", or the torch type.
        cache_bytes: what remembered passages may take in memory; None for 1 GiB, or on a GPU a quarter of what is
            free at first use, allocated at once.
        max_tokens: the most tokens of passages in one request.
        compiled: run the layers through torch.compile: a minute more at first use, and on a GPU a sixth less time
            from then on (python -m benchmarks gpu).
        store: keeps what was read on disk, for other processes and restarts: a folder, or a `KeyStore`; None for none.
        sets: the head sets of the profile whose keys are remembered. Others may be asked, but the passages are then
            read anew each time.
        keys: "int8", or "bfloat16" for keys that are not rounded to 8 bits (twice the bytes).

    Raises:
        InvalidInputError: an argument out of range.
        MissingDependencyError: torch, the embedded model or, for a store, lmdb is not installed.
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        profile: HeadProfile | str | Path | None = None,
        device: str = "auto",
        dtype: str | torch.dtype = "auto",
        cache_bytes: int | None = None,
        max_tokens: int = 131_072,
        compiled: bool = False,
        store: KeyStore | str | Path | None = None,
        sets: Sequence[str] = ("evidence",),
        keys: Literal["int8", "bfloat16"] = "int8",
    ) -> None:
        if max_tokens < 1 or (cache_bytes is not None and cache_bytes < 0):
            raise InvalidInputError(
                f"a reader takes max_tokens >= 1 and cache_bytes >= 0, but got {max_tokens} and {cache_bytes}"
            )
        if isinstance(sets, str) or not sets:
            raise InvalidInputError(f"sets must be a list of names such as ['evidence'], but got {sets!r}")
        if keys not in ("int8", "bfloat16"):
            raise InvalidInputError(f"keys must be 'int8' or 'bfloat16', but got {keys!r}")
        self.store = KeyStore(store) if isinstance(store, (str, Path)) else store
        self.max_tokens = max_tokens
        self._arguments: dict[str, Any] = {
            "model": model,
            "profile": profile,
            "device": device,
            "dtype": dtype,
            "cache_bytes": cache_bytes,
            "max_tokens": max_tokens,
            "compiled": compiled,
            "store": self.store,
            "sets": tuple(sets),
            "keys": keys,
        }
        self._model = ReaderModel(**{**self._arguments, "keys": getattr(torch, keys)})

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # as if newly made

    @property
    def source(self) -> ModelSource:
        """Where the model is."""
        return self._model.source

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self._model.device

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        return self._model.dtype

    @property
    def profile(self) -> HeadProfile:
        """The head profile in use."""
        return self._model.profile

    @property
    def encoder(self) -> Encoder:
        """The model's tokenizer, safe to share."""
        return self._model.encoder

    @property
    def decoder(self) -> Decoder:
        """The layers that are read, loaded at first use."""
        return self._model.decoder

    @property
    def layout(self) -> Layout:
        """How passages and queries stand in front of the model."""
        return self._model.layout

    @property
    def cache(self) -> KeyMemory:
        """What is remembered of passages."""
        return self._model.shelf.memory

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as this model counts them."""
        return self.encoder.count(text)

    def remember(self, passages: Iterable[Passage | str]) -> Remembered:
        """Read passages ahead of time, so that the first query finds them read: a stream of any length.

        Returns:
            What it took.

        Raises:
            InvalidInputError: a single passage with far more text than a request may hold.
        """
        return sum(self.remember_stream(passages), Remembered())

    def remember_stream(self, passages: Iterable[Passage | str]) -> Iterator[Remembered]:
        """The same in steps, for progress: says of each group of passages what it took, once it is read and stored.

        Yields:
            In the stream's order, some 8,000 tokens at a time. Nothing is read that is not asked for.

        Raises:
            InvalidInputError: as `remember`.
        """
        return remember(self._model, passages)

    def read(self, query: str, passages: Sequence[Passage | str]) -> Reading:
        """Score every token of every passage by the attention it receives from the query's tokens.

        The score is the attention mass at the profile's heads, weighted, mean over the query's tokens: what a token
        receives of one softmax over the prefix, all passages and the query itself.

        Args:
            query: the user's question.
            passages: whose `source` is read, with the title in front.

        Raises:
            InvalidInputError: an empty query, one that is too long, or more passages than `max_tokens` holds.
            DeadlineError: the request's time is over.
            ModelError: the model cannot be loaded, or gives scores that are not numbers.
        """
        return read_evidence(self._model, [(query, passages)])[0]

    def read_batch(self, requests: Sequence[tuple[str, Sequence[Passage | str]]]) -> list[Reading]:
        """Score many queries, each over its own passages: all queries run as one batch, and so do all new passages.

        Args:
            requests: queries with their passages; what they share is read once.

        Returns:
            One reading per request, as `read` gives it up to rounding.

        Raises:
            InvalidInputError: as `read`; `max_tokens` bounds each request.
        """
        return read_evidence(self._model, requests)

    def read_heads(self, query: str, passages: Sequence[Passage | str]) -> dict[str, Reading]:
        """What each head that counts looked at by itself: their sum is what `read` gives. For pictures and for doubts.

        Args:
            query: the user's question.
            passages: as in `read`.

        Returns:
            By name, such as "layer 15, head 6"; those with most weight first.

        Raises:
            InvalidInputError, DeadlineError, ModelError: as `read`.
        """
        return read_heads(self._model, query, passages)

    def screen(self, passages: Sequence[Passage | str]) -> Screening:
        """How much each token of each passage looks like an instruction to the model, by the profile's probe.

        From its first call on, a reader computes them whenever it reads a passage, and keeps them beside the keys in
        two bytes a token. What it remembers from before is read anew; what this call reads, the next query finds read.

        Args:
            passages: as in `read`; none, to have the scores kept from now on.

        Raises:
            InvalidInputError: a head profile without a probe, or passages as in `read`.
            DeadlineError, ModelError: as `read`.
        """
        return screen_passages(self._model, passages)

    def query_rows(self, query: str) -> QueryRows:
        """A query after its pass, to be held against passages by `read_rows`, here or in another process.

        Args:
            query: the user's question.

        Raises:
            InvalidInputError: an empty query, one that is too long, or a profile whose rows count by their rarity in
                the passages, which a query by itself does not know.
        """
        return query_rows(self._model, query)

    def partial(self, rows: QueryRows, passages: Sequence[Passage | str]) -> Partial:
        """What one shard's passages take of a query's softmax: the first of two phases over many machines.

        `merge` of all shards' parts gives the whole, under which each scores its own passages by `read_rows`.

        Args:
            rows: the query's, from `query_rows` of a reader with the same model and profile.
            passages: the shard's own.
        """
        return partial_evidence(self._model, rows, passages)

    def read_rows(self, rows: QueryRows, passages: Sequence[Passage | str], whole: Partial | None = None) -> Reading:
        """Score passages for a query that ran before.

        Args:
            rows: the query's, from `query_rows` of a reader with the same model and profile.
            passages: whose `source` is read, with the title in front.
            whole: what `merge` made of all shards' parts, where these passages are one shard; None: they are all.
        """
        return read_evidence_rows(self._model, rows, passages, whole)

    def read_gem(
        self, query: str, passages: Sequence[Passage | str], *, independent: bool = False, calibrated: bool = False
    ) -> Reading:
        """Score every token by GemFilter's rule (arXiv 2409.17422, section 3) at the profile's filter layer.

        Args:
            query: the user's question; stands last in the prompt.
            passages: in the order in which they are read.
            independent: read each passage by itself, and the query by itself, instead of the whole prompt causally;
                the pool of 5 tokens then ends at a passage's borders. Remembered if "gem" is among the reader's `sets`.
            calibrated: subtract from each passage the mean score of a dummy in its place: what a place in the prompt
                gets whatever stands there (Found in the Middle, arXiv 2406.16008, section 3). The paper leaves the
                dummy open: here "N/A" over and over, in all places in one further pass. Causal reading only: read
                independently, all passages have the same place.

        Raises:
            InvalidInputError: as `read`, or a prompt longer than the model's range.
        """
        if independent:
            return read_gem_alone(self._model, query, passages)
        return read_gem_prompt(self._model, query, passages, calibrated=calibrated)
