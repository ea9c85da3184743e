"""Reads passages once through a language model's early layers, and asks them many times."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.models.decoder import Decoder, pick_device, pick_dtype
from ctxshaper.models.loading import load_tokenizer, loading, resolve_lm
from ctxshaper.reading.attention import AskMemories, ReadPrompt
from ctxshaper.reading.batches import PassageBatches, read_prefix
from ctxshaper.reading.layout import Layout, Tokens
from ctxshaper.reading.locks import ForkSafeLock, once, renew_after_fork
from ctxshaper.reading.memory import Memories, MemoryCache
from ctxshaper.reading.paged import PagedCache
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.reading import PassageReading, Reading
from ctxshaper.reading.request_batcher import RequestBatcher
from ctxshaper.reading.warm import WarmQueries
from ctxshaper.text.tokenization import Encoder

_CACHE_BYTES = 2**30


class Reader:
    """Scores every token of a set of passages for a query, by the attention of a small language model. Thread-safe.

    Only the model's first layers run. Each passage is read by itself behind a short prefix, and what the layers made
    of it is remembered; a query then attends to all memories at once. The cost is linear in the passages and near zero
    for those seen before; scores do not depend on the order of passages.

    A reader pickles and copies as its arguments: the copy loads the model at its own first use and has read nothing.
    A forked child may go on with the parent's reader; torch then runs on one thread there, because OpenMP's threads do
    not survive a fork.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        profile: which heads count; a `HeadProfile`, a path to one, or None for the shipped or automatic one.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32".
        cache_bytes: what remembered passages may take in memory; None for 1 GiB, or on a GPU a quarter of what is
            free at first use, allocated at once.
        max_tokens: the most tokens of passages in one request.
        compiled: run the layers through torch.compile: a minute more at first use, and on a GPU a sixth less time
            from then on (benchmarks/gpu_reader.py).

    Raises:
        MissingDependencyError: torch or the embedded model is not installed.
        ModelError: the model cannot be found; loading itself happens at first use.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        profile: HeadProfile | str | Path | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_bytes: int | None = None,
        max_tokens: int = 131_072,
        compiled: bool = False,
    ) -> None:
        self._arguments = {
            "model": model,
            "profile": profile,
            "device": device,
            "dtype": dtype,
            "cache_bytes": cache_bytes,
            "max_tokens": max_tokens,
            "compiled": compiled,
        }
        if max_tokens < 1 or (cache_bytes is not None and cache_bytes < 0):
            raise InvalidInputError(
                f"a reader takes max_tokens >= 1 and cache_bytes >= 0, but got {max_tokens} and {cache_bytes}"
            )
        self.source = resolve_lm(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.max_tokens = max_tokens
        self._cache_bytes = cache_bytes
        self._compiled = compiled
        self._profile = profile
        self._lock = ForkSafeLock(reentrant=True)
        renew_after_fork(self)

    def __getstate__(self) -> dict[str, Any]:
        return self._arguments

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]  # as if newly made

    def renew(self) -> None:
        """Go on in a forked child."""
        if "decoder" in self.__dict__:
            torch.set_num_threads(1)

    @once
    def encoder(self) -> Encoder:
        """The model's tokenizer, safe to share."""
        return Encoder(load_tokenizer(self.source))

    @once
    def profile(self) -> HeadProfile:
        """The head profile in use."""
        if isinstance(self._profile, HeadProfile):
            return self._profile
        if self._profile is not None:
            return HeadProfile.load(self._profile)
        shipped = HeadProfile.shipped(self.source.name)
        return shipped or self._automatic_profile()

    def _automatic_profile(self) -> HeadProfile:
        warnings.warn(
            f"no head profile for {self.source.name!r}: all heads of a middle layer are used, minus a content-free "
            f"query; `ctxshaper calibrate --model {self.source.name}` finds better ones",
            stacklevel=3,
        )
        return HeadProfile.automatic(self.source.name, *self._size)

    @once
    def _size(self) -> tuple[int, int]:
        """How many layers the model has, and how many query heads a layer has."""
        with loading(self.source):
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(self.source.location, **self.source.arguments())
        config = getattr(config, "text_config", config)
        return int(config.num_hidden_layers), int(config.num_attention_heads)

    @once
    def decoder(self) -> Decoder:
        """The layers that are read, loaded at first use."""
        self.profile.check(self.source.name, *self._size)
        layers = max(self.profile.layers, self.profile.filter_layer + 1)
        return Decoder(self.source, layers, self.device, self.dtype, self._compiled)

    @once
    def layout(self) -> Layout:
        """How passages and queries stand in front of the model."""
        # The weights themselves name a memory where the source can tell them; file times and a model's name do not.
        weights = getattr(self.source, "fingerprint", self.source.revision)()
        shape = (weights, self.decoder.layers, self.dtype)
        return Layout(
            self.encoder,
            self.profile,
            self.source.name,
            max_context=getattr(self.decoder, "max_context", None) or self.decoder.reach,
            fingerprint=shape,
            max_tokens=self.max_tokens,
        )

    @once
    def _prefix(self) -> list[tuple[Tensor, Tensor]]:
        return read_prefix(self.decoder, self.layout.prefix)

    @once
    def cache(self) -> Memories[Any]:
        """What is remembered of passages."""
        if self.device.type != "cuda":
            return MemoryCache(_CACHE_BYTES if self._cache_bytes is None else self._cache_bytes, self._prefix)
        free, _ = torch.cuda.mem_get_info(self.device)
        return PagedCache(free // 4 if self._cache_bytes is None else self._cache_bytes, self._prefix)

    @once
    def _batcher(self) -> RequestBatcher[Any]:
        return RequestBatcher(self.cache, PassageBatches(self.decoder, self.cache, self._prefix, self.layout.end).read)

    @once
    def _head_weights(self) -> dict[int, Tensor]:
        """By layer, [H] float32 weights of the heads that count."""
        weights: dict[int, Tensor] = {}
        for head in self.profile.heads:
            row = weights.setdefault(head.layer, torch.zeros(self.decoder.config.num_attention_heads))
            row[head.head] += head.weight
        return {layer: row.to(self.device) for layer, row in weights.items()}

    @once
    def _warm(self) -> WarmQueries:
        return WarmQueries(self.decoder, self._head_weights, self.layout.end)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as this model counts them."""
        return self.encoder.count(text)

    def remember(self, passages: Sequence[Passage | str]) -> None:
        """Read passages ahead of time, so that the first query finds them in the cache."""
        with self._held([self.layout.passage(Passage.of(p)) for p in passages]):
            pass

    def read(self, query: str, passages: Sequence[Passage | str], *, hint: str = "") -> Reading:
        """Score every token of every passage by the attention it receives from the query's tokens.

        The score is the attention mass at the profile's heads, weighted, mean over the query's tokens: what a token
        receives when the query attends to all passages at once.

        Args:
            query: the user's question.
            passages: whose `source` is read, with the title in front.
            hint: how an answer begins, if that is known: its last token, where the model looks for the answer's next
                word, then counts as one more of the query's (the focal token of arXiv 2503.10720).

        Raises:
            InvalidInputError: an empty query, one that is too long, or more passages than `max_tokens` holds.
            ModelError: the model cannot be loaded, or gives scores that are not numbers.
        """
        return self._ask(query, passages, gem=False, hint=hint)

    def read_gem(
        self, query: str, passages: Sequence[Passage | str], *, independent: bool = False, calibrated: bool = False
    ) -> Reading:
        """Score every token by GemFilter's rule (arXiv 2409.17422, section 3) at the profile's filter layer.

        Args:
            query: the user's question; stands last in the prompt.
            passages: in the order in which they are read.
            independent: read each passage by itself (cached) instead of the whole prompt causally; the pool of 5
                tokens then ends at a passage's borders.
            calibrated: subtract from each passage the mean score of a dummy in its place: what a place in the prompt
                gets whatever stands there (Found in the Middle, arXiv 2406.16008, section 3). The paper leaves the
                dummy open: here "N/A" over and over, in all places in one further pass. Causal reading only: read
                independently, all passages have the same place.

        Raises:
            InvalidInputError: as `read`, or a prompt longer than the model's range.
        """
        if independent:
            return self._ask(query, passages, gem=True)
        started = time.perf_counter()
        ids, ranges, tokens = self.layout.prompt(query, [Passage.of(p) for p in passages])
        scores = self._prompt_scores(ids)
        if calibrated:
            dummy, blank = self.encoder.data(" N/A")[0], list(ids)
            for (a, b), one in zip(ranges, tokens, strict=True):
                blank[a - one.heading : b] = islice(cycle(dummy), one.heading + b - a)
            bias = self._prompt_scores(blank)
            for a, b in ranges:
                scores[a:b] -= bias[a:b].mean() if a < b else 0
        read = [PassageReading(t.offsets, scores[a:b]) for t, (a, b) in zip(tokens, ranges, strict=True)]
        notes = {"tokens_read": len(ids), "milliseconds": 1e3 * (time.perf_counter() - started)}
        return Reading(query, tuple(read), notes)

    def _prompt_scores(self, ids: list[int]) -> NDArray[np.float32]:
        call = ReadPrompt(self.profile.filter_layer)
        self.decoder.run(ids, range(len(ids)), call)
        assert call.gem is not None  # noqa: S101  # the filter layer is always loaded
        return _numbers(call.gem)

    def _ask(self, query: str, passages: Sequence[Passage | str], *, gem: bool, hint: str = "") -> Reading:
        started = time.perf_counter()
        self.layout.query(query, hint)  # a query that cannot be asked is refused before anything is read
        tokens = [self.layout.passage(Passage.of(p)) for p in passages]
        with self._held(tokens) as (handles, hits):
            found: dict[bytes, NDArray[np.float32]] = {}
            if handles:
                found = self._scores(query, hint, handles, gem)
                if self.profile.contrast and not gem:
                    plain = self._scores("N/A", hint, handles, gem)
                    found = {key: scores - plain[key] for key, scores in found.items()}
        read = tuple(PassageReading(one.offsets, self.layout.joined(one, found)) for one in tokens)
        notes = {
            "cache_hits": hits,
            "cache_misses": len(handles) - hits,
            "milliseconds": 1e3 * (time.perf_counter() - started),
        }
        return Reading(query, read, notes)

    def _scores(
        self, query: str, hint: str, handles: Mapping[bytes, Any], gem: bool
    ) -> dict[bytes, NDArray[np.float32]]:
        """Scores of the tokens of each memory."""
        ids, rows = self.layout.query(query, hint)
        held = self.cache.request(handles)
        if gem:
            call = AskMemories(held, {}, self.profile.filter_layer)
            self.decoder.run(ids, range(self.layout.end, self.layout.end + len(ids)), call)
            return {key: _numbers(scores) for key, scores in call.gem.items()}
        ids = ids[: rows[-1] + 1]  # what stands behind them is seen by none of them
        if isinstance(self.cache, PagedCache) and self.device.type == "cuda":
            scores = _numbers(self._warm.ask(ids, rows, held))
        else:
            row_weights = torch.zeros(len(ids), 1, device=self.device).index_fill_(
                0, torch.tensor(rows, device=self.device), 1 / len(rows)
            )
            call = AskMemories(held, {layer: row_weights * heads for layer, heads in self._head_weights.items()})
            self.decoder.run(ids, range(self.layout.end, self.layout.end + len(ids)), call)
            assert call.mass is not None  # noqa: S101  # a profile has a head, and its layer is read
            scores = _numbers(call.mass)
        return {key: scores[place] for key, place in held.places.items()}

    @contextmanager
    def _held(self, tokens: Sequence[Tokens]) -> Iterator[tuple[dict[bytes, Any], int]]:
        """Memories of all windows, each content once, in an order that does not depend on the passages'; and hits."""
        wanted = {key: ids for t in tokens for key, ids in zip(t.keys, t.ids, strict=True) if len(ids) > t.heading}
        total = sum(map(len, wanted.values()))
        if total > self.max_tokens:
            raise InvalidInputError(
                f"the passages have {total:,} tokens together; this reader takes at most {self.max_tokens:,} in one "
                "request: pass fewer passages, or raise max_tokens"
            )
        found = self.cache.take(wanted)
        hits = len(found)
        try:
            found |= self._batcher.read({key: ids for key, ids in wanted.items() if key not in found})
            yield {key: found[key] for key in sorted(found)}, hits
        finally:
            self.cache.release(found.values())


def _numbers(scores: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = scores.float().cpu().numpy()
    if not np.isfinite(result).all():
        raise ModelError("the model gave scores that are not numbers; use dtype='float32'")
    return result
