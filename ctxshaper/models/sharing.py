"""The same weights once per process: models of the same files, device and type share what they store."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

# The files' stamp, the device and the type.
Key = tuple[str, str, torch.dtype]

# Changed under the lock of `loading` only. A model stands here as long as somebody uses it.
_LIVE: dict[Key, WeakSet[Any]] = {}


def place(device: torch.device) -> torch.device:
    """The device with its number: "cuda" and "cuda:0" hold the same weights."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def shared(key: Key, model: Any) -> Any:
    """Point the parameters of a model that was just loaded at the storage of those that live already."""
    there = {_bare(name): value for one in _LIVE.get(key, ()) for name, value in one.named_parameters()}
    for name, value in model.named_parameters():
        known = there.get(_bare(name))
        if known is not None and known.shape == value.shape:
            value.data = known.data
    return _registered(key, model)


def view(key: Key, layers: int | None, *, head: bool) -> Any | None:
    """A model made of one that lives already, with modules of its own over the same storage; None if none has all.

    Args:
        key: of the weights.
        layers: how many of the first layers; None for all.
        head: with the language-model head, or only the decoder under it.
    """
    for one in list(_LIVE.get(key, ())):
        # Only whole models tell how many layers the files hold; those with a head are whole.
        if not one.can_generate():
            continue
        if head and layers is None:
            return _registered(key, twin(one))
        decoder = twin(getattr(one.base_model, "language_model", one.base_model))
        if layers is not None:
            decoder.layers = decoder.layers[:layers]
            decoder.config.num_hidden_layers = layers
            if getattr(decoder.config, "layer_types", None):
                decoder.config.layer_types = decoder.config.layer_types[:layers]
        return _registered(key, decoder)
    return None


def twin(model: Any) -> Any:
    """A copy of a model's modules and config, so that its way of attention can be chosen, over the same storage."""
    own = {id(value): nn.Parameter(value.data, requires_grad=False) for value in model.parameters()}
    with torch.inference_mode(False):
        return copy.deepcopy(model, own)


def _registered(key: Key, model: Any) -> Any:
    for old in [k for k, models in _LIVE.items() if not models]:
        del _LIVE[old]
    _LIVE.setdefault(key, WeakSet()).add(model)
    return model


def _bare(name: str) -> str:
    """A parameter's name inside the decoder, whichever class holds it."""
    return name.split("language_model.")[-1].removeprefix("model.")
