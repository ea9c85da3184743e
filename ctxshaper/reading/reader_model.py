"""What a reader loads and makes once: model, profile, layout, and the shelves of keys."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ctxshaper.models.decoder import Decoder, pick_device, pick_dtype
from ctxshaper.models.finding import resolve_lm
from ctxshaper.models.guard import loading
from ctxshaper.models.loading import load_tokenizer
from ctxshaper.models.unpacking import unpacked
from ctxshaper.reading.head_sets import HeadSet, head_set, slots_of
from ctxshaper.reading.injection_probe import InjectionProbe
from ctxshaper.reading.key_memory import KeyMemory
from ctxshaper.reading.layout import Layout
from ctxshaper.reading.locks import ForkSafeLock, once, renew_after_fork
from ctxshaper.reading.prefill import Prefill, read_prefix
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.query_pass import QueryPasses
from ctxshaper.reading.questions import Questions
from ctxshaper.reading.shelf import KeyShelf
from ctxshaper.reading.store import KeyStore
from ctxshaper.text.tokenization import Encoder

_CACHE_BYTES = 2**30


class ReaderModel:
    """A model ready to read, each part made at first use. Thread-safe; arguments as in `Reader`."""

    def __init__(
        self,
        model: str | Path | None,
        profile: HeadProfile | str | Path | None,
        device: str,
        dtype: str | torch.dtype,
        cache_bytes: int | None,
        max_tokens: int,
        compiled: bool,
        store: KeyStore | None,
        sets: Sequence[str],
        keys: torch.dtype,
    ) -> None:
        self.source = resolve_lm(model)
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype, self.device)
        self.max_tokens = max_tokens
        self._profile, self._cache_bytes = profile, cache_bytes
        self._compiled, self._store, self._sets, self._keys = compiled, store, tuple(sets), keys
        self._questions: dict[str, Questions] = {}
        self._anew: dict[str, KeyShelf] = {}
        self._marks = False
        self._lock = ForkSafeLock(reentrant=True)
        renew_after_fork(self)

    def renew(self) -> None:
        """Go on in a forked child, where OpenMP would wait for ever for threads that stayed in the parent."""
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
        layers, heads, _ = self._size
        return HeadProfile.automatic(self.source.name, layers, heads)

    @once
    def _size(self) -> tuple[int, int, int]:
        """How many layers the model has, and how many query heads and key heads a layer has."""
        with loading(self.source):
            from transformers import AutoConfig

            source = unpacked(self.source)  # of a GGUF file the header alone takes seconds
            config = AutoConfig.from_pretrained(source.location, **source.arguments())
        config = getattr(config, "text_config", config)
        heads = int(config.num_attention_heads)
        return int(config.num_hidden_layers), heads, int(getattr(config, "num_key_value_heads", None) or heads)

    @once
    def decoder(self) -> Decoder:
        """The layers that are read, loaded at first use."""
        layers, heads, _ = self._size
        self.profile.check(self.source.name, layers, heads)
        return Decoder(self.source, self.profile.deepest + 1, self.device, self.dtype, self._compiled)

    @once
    def layout(self) -> Layout:
        """How passages and queries stand in front of the model."""
        return Layout(
            self.encoder,
            self.profile,
            self.source.name,
            max_context=self.decoder.max_context,
            # A passage's keys rest on the weights themselves, not on file times or a model's name.
            fingerprint=(self.source.fingerprint(), self.dtype),
            max_tokens=self.max_tokens,
            store=self._store,
        )

    @once
    def _prefix(self) -> list[tuple[Tensor, Tensor]]:
        return read_prefix(self.decoder, self.layout.prefix)

    def heads(self, name: str) -> HeadSet:
        """A head set of the profile by its name.

        Raises:
            InvalidInputError: the profile has no such set.
        """
        return head_set(self.profile, name, *self._size[1:])

    def questions(self, name: str) -> Questions:
        """What runs queries for a head set."""
        with self._lock:
            if name not in self._questions:
                heads = self.heads(name)
                self._questions[name] = Questions(
                    QueryPasses(self.decoder, self._prefix, self.layout.end, heads), heads
                )
            return self._questions[name]

    def keeps(self, name: str) -> bool:
        """Whether the keys of a head set are remembered."""
        return set(self.heads(name).slots) <= set(self.shelf.slots)

    @once
    def shelf(self) -> KeyShelf:
        """The keys that are remembered."""
        slots = slots_of([self.heads(name) for name in self._sets])
        size = self._cache_bytes
        if size is None and self.device.type == "cuda":
            size = torch.cuda.mem_get_info(self.device)[0] // 4
        probe = self.profile.injection if self._marks else None
        return self._shelf(slots, _CACHE_BYTES if size is None else size, self._store, probe)

    def keep_marks(self) -> None:
        """From now on keep the injection probe's scores beside the keys. What was read without them is read anew."""
        with self._lock:
            if not self._marks:
                self._marks = True
                self.__dict__.pop("shelf", None)

    def shelf_for(self, name: str) -> KeyShelf:
        """Where the keys of a head set are found: the shelf, or, for a set that is not kept, one that forgets."""
        if self.keeps(name):
            return self.shelf
        with self._lock:
            if name not in self._anew:
                self._anew[name] = self._shelf(self.heads(name).slots, 0, None)
            return self._anew[name]

    def _shelf(
        self,
        slots: Sequence[tuple[int, int]],
        size: int,
        store: KeyStore | None,
        probe: InjectionProbe | None = None,
    ) -> KeyShelf:
        dim = self._prefix[0][0].shape[2]
        memory = KeyMemory(size, len(slots), dim, dtype=self._keys, device=self.device, marked=probe is not None)
        prefill = Prefill(self.decoder, self._prefix, self.layout.end, slots, probe)
        return KeyShelf(memory, prefill, store, self.layout.fingerprint)
