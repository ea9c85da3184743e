"""Reads passages once through a language model's early layers, and asks them many times."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.context import Passage
from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.reading.attention import AskMemories, ReadPassages, ReadPrompt
from ctxshaper.reading.decoder import Decoder, pick_device, pick_dtype
from ctxshaper.reading.memory import MemoryCache, PassageMemory, content_key
from ctxshaper.reading.models import load_tokenizer, loading, resolve_lm
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.reading import PassageReading, Reading
from ctxshaper.reading.tokenization import Encoder

# Passages end at this position and the query follows: every passage is equally near to the query, and its memory
# does not depend on the others. Measured on HotpotQA, ends at 512, 1,024 and 2,048 did equally well.
_END = 2048
_QUERY_ROOM = 256
_OVERLAP = 128
# Rows of one forward pass: enough to keep the matrix unit busy, small enough to keep activations in a few MB.
_CHUNK = {"cpu": 2048, "cuda": 16384, "mps": 4096}


@dataclass(frozen=True)
class _Encoded:
    """A passage as tokens: its windows, and where each window's tokens lie in its source."""

    offsets: NDArray[np.int64]  # [n, 2] of the source's tokens
    windows: tuple[tuple[int, int], ...]  # token ranges, overlapping
    ids: tuple[tuple[int, ...], ...]  # by window, with the heading in front
    heading: int  # tokens of the heading


class Reader:
    """The first L layers of a small causal language model, and what they remember of the passages they read.

    Each passage is read by itself behind a short prefix; a query then attends to all memories at once. The cost is
    linear in the passages and near zero for those seen before; scores do not depend on the order of passages.

    Args:
        model: None for the embedded SmolLM2, a folder, a GGUF file, or a hub name.
        profile: which heads count; a `HeadProfile`, a path to one, or None for the shipped or automatic one.
        device: "auto", or a torch device.
        dtype: "auto", "bfloat16", "float16" or "float32".
        cache_bytes: what remembered passages may take in memory.
        max_tokens: the most tokens of passages in one request.

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
        cache_bytes: int = 2**30,
        max_tokens: int = 131_072,
    ) -> None:
        self.source = resolve_lm(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.max_tokens = max_tokens
        self.cache = MemoryCache(cache_bytes)
        self._profile = profile
        self._lock = threading.RLock()
        # The joined memories of the last requests: a second query over the same passages copies nothing.
        self._joined: OrderedDict[tuple[bytes, ...], tuple[Tensor, Tensor]] = OrderedDict()

    @cached_property
    def encoder(self) -> Encoder:
        """The model's tokenizer, safe to share."""
        with self._lock:
            return Encoder(load_tokenizer(self.source))

    @cached_property
    def profile(self) -> HeadProfile:
        """The head profile in use."""
        if isinstance(self._profile, HeadProfile):
            return self._profile
        if self._profile is not None:
            return HeadProfile.load(self._profile)
        shipped = HeadProfile.shipped(self.source.name)
        return shipped or self._automatic_profile()

    def _automatic_profile(self) -> HeadProfile:
        import warnings

        with loading(self.source):
            from transformers import AutoConfig

            config = AutoConfig.from_pretrained(self.source.location, **self.source.arguments())
        config = getattr(config, "text_config", config)
        warnings.warn(
            f"no head profile for {self.source.name!r}: all heads of a middle layer are used, minus a content-free "
            f"query; `ctxshaper calibrate --model {self.source.name}` finds better ones",
            stacklevel=3,
        )
        return HeadProfile.automatic(self.source.name, int(config.num_hidden_layers), int(config.num_attention_heads))

    @cached_property
    def decoder(self) -> Decoder:
        """The layers that are read, loaded at first use."""
        with self._lock:
            layers = max(self.profile.layers, self.profile.filter_layer + 1)
            return Decoder(self.source, layers, self.device, self.dtype)

    @cached_property
    def _end(self) -> int:
        # Everything lies inside a sliding window, where the model has one: then full attention is exactly right.
        reach = [x for x in (self.decoder.max_positions, self.decoder.window) if x]
        end = min([_END, *(limit - _QUERY_ROOM for limit in reach)])
        if end < len(self._prefix_ids) + 2:
            raise ModelError(f"{self.source.name} sees only {min(reach)} positions, too few to read passages with")
        return end

    @cached_property
    def _prefix_ids(self) -> list[int]:
        return self.encoder.bos + self.encoder.markup(self.profile.prefix)

    @cached_property
    def _fingerprint(self) -> bytes:
        parts = (self.source.name, self.source.revision(), self.decoder.layers, self._end, self.dtype)
        return repr((*parts, self._prefix_ids)).encode()

    @cached_property
    def _prefix(self) -> list[tuple[Tensor, Tensor]]:
        with self._lock:
            call = ReadPassages([len(self._prefix_ids)], self.decoder.layers)
            self.decoder.run(self._prefix_ids, range(len(self._prefix_ids)), call)
            return list(zip(call.keys, [*call.values, call.keys[-1]], strict=True))

    def count_tokens(self, text: str) -> int:
        """Tokens of a text as this model counts them."""
        return self.encoder.count(text)

    def remember(self, passages: Sequence[Passage | str]) -> None:
        """Read passages ahead of time, so that the first query finds them in the cache."""
        self._memories([self._encode(Passage.of(p)) for p in passages])

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

    def read_gem(self, query: str, passages: Sequence[Passage | str], *, independent: bool = False) -> Reading:
        """Score every token by GemFilter's rule (arXiv 2409.17422, section 3) at the profile's filter layer.

        Args:
            query: the user's question; stands last in the prompt.
            passages: in the order in which they are read.
            independent: read each passage by itself (cached) instead of the whole prompt causally; the pool of 5
                tokens then ends at a passage's borders.

        Raises:
            InvalidInputError: as `read`, or a prompt longer than the model's range.
        """
        if independent:
            return self._ask(query, passages, gem=True)
        started = time.perf_counter()
        encoded = [self._encode(Passage.of(p), whole=True) for p in passages]
        ids, rows = list(self._prefix_ids), []
        for one in encoded:
            ids += one.ids[0]
            rows.append((len(ids) - len(one.offsets), len(ids)))
            ids += self._gap_ids
        ids += self._query_ids(query)[0]
        limits = [x for x in (self.decoder.max_positions, self.decoder.window) if x]
        if limits and len(ids) > min(limits):
            raise InvalidInputError(
                f"the prompt has {len(ids)} tokens, but {self.source.name} sees {min(limits)} at once; use fewer "
                "passages or independent reading"
            )
        call = ReadPrompt(self.profile.filter_layer)
        self.decoder.run(ids, range(len(ids)), call)
        assert call.gem is not None  # noqa: S101  # the filter layer is always loaded
        scores = _numbers(call.gem)
        read = [PassageReading(e.offsets, scores[a:b]) for e, (a, b) in zip(encoded, rows, strict=True)]
        notes = {"tokens_read": len(ids), "milliseconds": 1e3 * (time.perf_counter() - started)}
        return Reading(query, tuple(read), notes)

    def _ask(self, query: str, passages: Sequence[Passage | str], *, gem: bool, hint: str = "") -> Reading:
        started = time.perf_counter()
        ids, rows = self._query_ids(query, hint)
        encoded = [self._encode(Passage.of(p)) for p in passages]
        hits, misses = self.cache.hits, self.cache.misses
        memories = self._memories(encoded)
        found: dict[bytes, NDArray[np.float32]] = {}
        if memories:
            found = self._scores(ids, rows, memories, gem)
            if self.profile.contrast and not gem:
                plain = self._scores(*self._query_ids("N/A", hint), memories, gem)
                found = {key: scores - plain[key] for key, scores in found.items()}
        read = tuple(self._join_windows(one, found) for one in encoded)
        notes = {
            "cache_hits": self.cache.hits - hits,
            "cache_misses": self.cache.misses - misses,
            "milliseconds": 1e3 * (time.perf_counter() - started),
        }
        return Reading(query, read, notes)

    def _scores(
        self, ids: list[int], rows: list[int], memories: dict[bytes, PassageMemory], gem: bool
    ) -> dict[bytes, NDArray[np.float32]]:
        keys, values = self._join(memories)
        layers = {head.layer for head in self.profile.heads}
        heads = self.decoder.config.num_attention_heads
        weights = {layer: torch.zeros(len(ids), heads, device=self.device) for layer in layers}
        for head in self.profile.heads:
            weights[head.layer][rows, head.head] = head.weight / len(rows)
        lengths = [len(self._prefix_ids), *(memory.tokens for memory in memories.values())]
        call = AskMemories(keys, values, lengths, weights, self.profile.filter_layer if gem else None)
        self.decoder.run(ids, range(self._end, self._end + len(ids)), call)
        result = call.gem if gem else call.mass
        if result is None:
            raise ModelError(f"the head profile of {self.profile.model!r} names no layer that was read")
        pieces = np.split(_numbers(result), np.cumsum(lengths[1:-1]))
        return dict(zip(memories, pieces, strict=True))

    def _query_ids(self, query: str, hint: str = "") -> tuple[list[int], list[int]]:
        """Tokens of the query in its frame, and which of them count: the query's own, and the last of a hint."""
        if not query.strip():
            raise InvalidInputError("the query is empty; pass the user's question")
        before, after = (
            self.encoder.markup(self.profile.before_query),
            self.encoder.markup(self.profile.after_query),
        )
        own, _ = self.encoder.data(query)
        ids = before + own + after + self.encoder.data(hint)[0]
        reach = [x for x in (self.decoder.max_positions, self.decoder.window) if x]
        if reach and len(ids) > min(reach) - self._end:
            raise InvalidInputError(
                f"the query has {len(own)} tokens; {self.source.name} takes at most "
                f"{min(reach) - self._end - (len(ids) - len(own))} beside the passages"
            )
        rows = list(range(len(before), len(before) + len(own)))
        return ids, [*rows, len(ids) - 1] if hint else rows

    @cached_property
    def _gap_ids(self) -> list[int]:
        return self.encoder.markup("\n\n")

    def _encode(self, passage: Passage, *, whole: bool = False) -> _Encoded:
        text = passage.source
        if len(text) > 32 * self.max_tokens:
            raise InvalidInputError(
                f"a passage has {len(text):,} characters; this reader takes at most {self.max_tokens:,} tokens in one "
                "request: split the passage, or raise max_tokens"
            )
        heading = self.encoder.data(passage.title + "\n")[0][:64] if passage.title else []
        ids, offsets = self.encoder.data(text)
        if whole:
            return _Encoded(offsets, ((0, len(ids)),), ((*heading, *ids),), len(heading))
        room = self._end - len(self._prefix_ids) - len(heading)
        windows = [(0, min(len(ids), room))]
        while windows[-1][1] < len(ids):
            start = windows[-1][1] - min(_OVERLAP, room // 4)
            windows.append((start, min(len(ids), start + room)))
        pieces = tuple((*heading, *ids[a:b]) for a, b in windows)
        return _Encoded(offsets, tuple(windows), pieces, len(heading))

    def _key(self, ids: tuple[int, ...]) -> bytes:
        return content_key(self._fingerprint, ids)

    def _memories(self, encoded: Sequence[_Encoded]) -> dict[bytes, PassageMemory]:
        """The memories of all windows, each content once, in an order that does not depend on the passages'."""
        wanted = {self._key(ids): ids for one in encoded for ids in one.ids if len(ids) > one.heading}
        total = sum(map(len, wanted.values()))
        if total > self.max_tokens:
            raise InvalidInputError(
                f"the passages have {total:,} tokens together; this reader takes at most {self.max_tokens:,} in one "
                "request: pass fewer passages, or raise max_tokens"
            )
        with self._lock:  # two requests for the same new passage: the second finds it read
            found = {key: self.cache.get(key) for key in sorted(wanted)}
            new = sorted((key for key, m in found.items() if m is None), key=lambda k: (len(wanted[k]), k))
            batch: list[bytes] = []
            for index, key in enumerate(new):
                batch.append(key)
                size = sum(len(wanted[k]) for k in batch)
                following = len(wanted[new[index + 1]]) if index + 1 < len(new) else _END
                if index == len(new) - 1 or size + following > _CHUNK.get(self.device.type, _END):
                    for memory in self._read_batch({k: wanted[k] for k in batch}):
                        found[memory.key] = memory
                        self.cache.put(memory)
                    batch = []
        return {key: memory for key, memory in found.items() if memory is not None}

    def _read_batch(self, batch: dict[bytes, tuple[int, ...]]) -> list[PassageMemory]:
        ids = [token for tokens in batch.values() for token in tokens]
        positions = [p for tokens in batch.values() for p in range(self._end - len(tokens), self._end)]
        lengths = [len(tokens) for tokens in batch.values()]
        call = ReadPassages(lengths, self.decoder.layers, self._prefix)
        self.decoder.run(ids, positions, call)
        memories, start = [], 0
        for key, length in zip(batch, lengths, strict=True):
            own = slice(start, start + length)
            keys = torch.stack([k[:, own] for k in call.keys])
            values = torch.stack([v[:, own] for v in call.values]) if call.values else keys[:0]
            memories.append(PassageMemory(key, keys, values))
            start += length
        return memories

    def _join(self, memories: dict[bytes, PassageMemory]) -> tuple[Tensor, Tensor]:
        """All keys [L, KV, P + T, D] and values [L - 1, KV, P + T, D], the prefix first."""
        name = tuple(memories)
        with self._lock:
            joined = self._joined.get(name)
            if joined is None:
                before_k = torch.stack([k for k, _ in self._prefix])
                before_v = torch.stack([v for _, v in self._prefix[:-1]]) if len(self._prefix) > 1 else before_k[:0]
                joined = (
                    torch.cat([before_k, *(m.keys for m in memories.values())], dim=2),
                    torch.cat([before_v, *(m.values for m in memories.values())], dim=2),
                )
                self._joined[name] = joined
                while len(self._joined) > 1 and sum(k.nbytes + v.nbytes for k, v in self._joined.values()) > 2**28:
                    self._joined.popitem(last=False)
            self._joined.move_to_end(name)
        return joined

    def _join_windows(self, one: _Encoded, found: dict[bytes, NDArray[np.float32]]) -> PassageReading:
        """Scores of a passage's tokens from those of its windows: the mean where windows overlap."""
        total, seen = np.zeros(len(one.offsets)), np.zeros(len(one.offsets))
        for (start, end), ids in zip(one.windows, one.ids, strict=True):
            if end > start:
                total[start:end] += found[self._key(ids)][one.heading :]
                seen[start:end] += 1
        return PassageReading(one.offsets, (total / np.maximum(seen, 1)).astype(np.float32))


def _numbers(scores: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = scores.float().cpu().numpy()
    if not np.isfinite(result).all():
        raise ModelError("the model gave scores that are not numbers; use dtype='float32'")
    return result
