"""What is loaded of a whole language model: once per files, device and type in a process."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch

from ctxshaper.models.chat import Chat
from ctxshaper.models.decoder import Decoder
from ctxshaper.models.finding import ModelSource
from ctxshaper.models.guard import loading
from ctxshaper.models.loading import load_config, load_lm, load_tokenizer
from ctxshaper.models.sharing import Key, place, twin
from ctxshaper.models.steered import NAME, install
from ctxshaper.text.tokenization import Encoder

_T = TypeVar("_T")


class _once(cached_property[_T]):  # noqa: N801  # used as a decorator
    """A cached property that one thread computes while others wait."""

    def __get__(self, instance: Any, owner: Any = None) -> _T:  # type: ignore[override]
        if instance is None:
            return self  # type: ignore[return-value]
        with instance.making:
            return super().__get__(instance, owner)  # type: ignore[no-any-return]


class LoadedModel:
    """A whole model and what goes with it, each part loaded at first use.

    Args:
        source: where it is, on this machine.
        device: where it runs.
        dtype: the type of its weights.

    Attributes:
        lock: held while a batch runs.
        making: held while a part is loaded.
    """

    def __init__(self, source: ModelSource, device: torch.device, dtype: torch.dtype) -> None:
        self.source, self.device, self.dtype = source, device, dtype
        self.lock, self.making = threading.RLock(), threading.RLock()
        self._decoders: dict[int, Decoder] = {}

    @_once
    def model(self) -> Any:
        """The model of transformers, with its head."""
        return load_lm(self.source, dtype=self.dtype, head=True, device=self.device)

    @_once
    def eager(self) -> Any:
        """The same with transformers' plain attention, which alone gives weights; over the same storage."""
        model = twin(self.model)
        model.set_attn_implementation("eager")
        return model

    @_once
    def steered(self) -> Any:
        """The same with an attention that a `Steering` changes (models/steered.py); over the same storage."""
        install()
        model = twin(self.model)
        model.set_attn_implementation(NAME)
        return model

    @_once
    def config(self) -> Any:
        """The config of the text model."""
        return load_config(self.source).get_text_config()

    @_once
    def tokenizer(self) -> Any:
        """The tokenizer of transformers."""
        return load_tokenizer(self.source)

    @_once
    def encoder(self) -> Encoder:
        """The tokenizer, safe to share."""
        return Encoder(self.tokenizer)

    @_once
    def chat(self) -> Chat:
        """How the model is spoken to."""
        return Chat(self.tokenizer, self.encoder, self.source.name)

    def decoder(self, layers: int) -> Decoder:
        """The first layers under this project's attention, over the same storage where the model is loaded."""
        with self.making:
            if layers not in self._decoders:
                self._decoders[layers] = Decoder(self.source, layers, self.device, self.dtype)
            return self._decoders[layers]


# Holds nothing alive: what nobody uses any more is gone.
_ALL: WeakValueDictionary[Key, LoadedModel] = WeakValueDictionary()


def loaded(source: ModelSource, device: torch.device, dtype: torch.dtype) -> LoadedModel:
    """The one of these files, this device and this type.

    Raises:
        ModelError: a hub name that can be neither downloaded nor found in the hub's cache.
    """
    source = source.on_disk()
    with loading(source):
        key = (source.stamp(), str(place(device)), dtype)
        found = _ALL.get(key)
        if found is None:
            found = _ALL[key] = LoadedModel(source, device, dtype)
        return found
