"""What QRHead and Sentinel need of a model: found on made-up questions by `python -m benchmarks peer_weights`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data.json import parse_json
from ctxshaper.errors import InvalidInputError
from ctxshaper.models.language_model import LanguageModel

FILE = files("ctxshaper.evaluation").joinpath("data", "peers.json")


@dataclass(frozen=True, eq=False)
class Fitted:
    """Numbers for one model.

    Attributes:
        model: its name.
        heads: (layer, head) that QRHead keeps, the best first.
        weights: [L, H] of Sentinel's logistic regression, without the bias, which changes no order.
    """

    model: str
    heads: tuple[tuple[int, int], ...]
    weights: NDArray[np.float64]


@cache
def _shipped() -> Fitted:
    data = parse_json(FILE.read_bytes(), "peers.json")
    return Fitted(data["model"], tuple((layer, head) for layer, head, _ in data["heads"]), np.array(data["weights"]))


def fitted_for(model: LanguageModel) -> Fitted:
    """The numbers for a model.

    Raises:
        InvalidInputError: they were found for another one.
    """
    found = _shipped()
    if model.name != found.model:
        raise InvalidInputError(
            f"QRHead's heads and Sentinel's weights are known for {found.model}, but the language model is "
            f"{model.name}; fit them with `python -m benchmarks peer_weights`"
        )
    return found
