"""The injection probe's scores of the tokens of one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.reading.injection_probe import InjectionProbe

# The largest number that float16 holds is 65,504; what is beyond is beyond any threshold anyway.
_MOST = 6e4


class TokenMarks:
    """Adds up a probe's scores layer by layer, for one forward pass.

    Args:
        probe: the weights.
        device: where the model runs.
    """

    def __init__(self, probe: InjectionProbe, device: torch.device) -> None:
        self._layers, self._bias = probe.layers, probe.bias
        self._weights = torch.tensor(probe.weights, dtype=torch.float32, device=device).view(len(probe.layers), -1)
        self._sums: list[Tensor] = []

    @property
    def last(self) -> int:
        """The last layer that is looked at."""
        return self._layers[-1]

    def add(self, layer: int, values: Tensor) -> None:
        """Take the values [KV, T, D] of a layer.

        Raises:
            InvalidInputError: a probe that was made for a model of another shape.
        """
        if layer not in self._layers:
            return
        weights, (heads, _, dim) = self._weights[self._layers.index(layer)], values.shape
        if len(weights) != heads * dim:
            raise InvalidInputError(
                f"the injection probe has {len(weights)} weights for layer {layer}, whose values have {heads * dim} "
                "dimensions; use a head profile that was made for this model"
            )
        self._sums.append(torch.einsum("ktd,kd->t", values.float(), weights.view(heads, dim)))

    def take(self) -> Tensor:
        """[T] float16 scores of the tokens, once all layers were given."""
        return (torch.stack(self._sums).sum(0) + self._bias).clamp(-_MOST, _MOST).half()
