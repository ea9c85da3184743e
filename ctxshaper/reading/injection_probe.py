"""Whether text speaks to the model instead of to the reader: a linear probe on what prefill computes anyway."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxshaper.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class InjectionProbe:
    """Weights that score each token of a passage by how much it looks like an instruction to the model.

    A token's score is linear in the values (the `v` of attention) of some layers, which are a linear image of the
    normalised hidden state there: a probe of activations without a hook into the model. The score of a sentence is the
    mean over its tokens. It is computed while a passage is read and kept beside its keys in two bytes a token, so that
    a query costs nothing for it.

    Attributes:
        layers: whose values are looked at, counted from 0; sorted.
        weights: by layer, key head and dimension, one after the other.
        bias: added once.
        threshold: sentences that score more are taken for instructions to the model.
    """

    layers: tuple[int, ...]
    weights: tuple[float, ...]
    bias: float
    threshold: float

    def __post_init__(self) -> None:
        fits = self.layers and self.weights and not len(self.weights) % len(self.layers)
        if not (fits and list(self.layers) == sorted(set(self.layers)) and self.layers[0] >= 0):
            raise InvalidInputError(
                f"an injection probe needs sorted layers and equally many weights for each, but got the layers "
                f"{self.layers!r:.80} and {len(self.weights)} weights"
            )
        if not all(map(math.isfinite, (*self.weights, self.bias, self.threshold))):
            raise InvalidInputError("an injection probe needs finite numbers, but some are not; fit it anew")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InjectionProbe:
        """The probe from plain data."""
        return cls(tuple(data["layers"]), tuple(map(float, data["weights"])), data["bias"], data["threshold"])

    @property
    def fingerprint(self) -> bytes:
        """What a token's score depends on; the threshold is no part of it."""
        numbers = struct.pack(f"<{len(self.weights) + 1}d", self.bias, *self.weights)
        return hashlib.blake2b(repr(self.layers).encode() + numbers, digest_size=16).digest()
