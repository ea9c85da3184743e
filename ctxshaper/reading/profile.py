"""Which heads of a model carry relevance, and how a reader phrases what it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctxshaper.errors import InvalidInputError

_SHIPPED = {
    "SmolLM2-135M-Instruct": "smollm2-135m-instruct.json",
    # Three layers instead of nineteen: an eighth of the time, for filters that weigh other scores in as well.
    "SmolLM2-135M-Instruct-fast": "smollm2-135m-instruct-fast.json",
}


@dataclass(frozen=True, slots=True)
class Head:
    """One attention head and its weight in the score.

    Attributes:
        layer: counted from 0.
        head: query head, counted from 0.
        weight: factor of its attention mass; above 0.
    """

    layer: int
    head: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.layer < 0 or self.head < 0 or not self.weight > 0:
            raise InvalidInputError(
                f"a head needs layer >= 0, head >= 0 and weight > 0, but got layer={self.layer}, head={self.head}, "
                f"weight={self.weight}"
            )


@dataclass(frozen=True, slots=True)
class HeadProfile:
    """What a reader needs to know about a model.

    A token's relevance is the attention that it receives from the question's tokens (mean over these) at the chosen
    heads, each times its weight (methods: retrieval heads, arXiv 2404.15574; QRHead, arXiv 2506.09944).

    Attributes:
        model: the model's name, for provenance.
        heads: the heads that count.
        filter_layer: the layer r of GemFilter, counted from 0.
        prefix: text in front of every passage.
        before_query: text between the passages and the query.
        after_query: text behind the query.
        contrast: whether the attention of a content-free query is subtracted (In-Context Re-ranking, arXiv
            2410.02642): needed where heads were not selected by evidence.
        provenance: how the profile was made; plain JSON data.
    """

    model: str
    heads: tuple[Head, ...]
    filter_layer: int
    prefix: str = "Here are some paragraphs:\n\n"
    before_query: str = "\n\nQuestion: "
    after_query: str = "\nAnswer:"
    contrast: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.heads:
            raise InvalidInputError("a head profile needs at least one head")

    @property
    def layers(self) -> int:
        """How many layers must be read for these heads."""
        return max(head.layer for head in self.heads) + 1

    def save(self, path: str | Path) -> None:
        """Write the profile as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> HeadProfile:
        """Read a profile that `save` wrote.

        Raises:
            InvalidInputError: the file cannot be read or is no head profile.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidInputError(f"{path} is not a head profile: {error}") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadProfile:
        """The profile from plain data."""
        return cls(**{**data, "heads": tuple(Head(**head) for head in data["heads"])})

    @classmethod
    def shipped(cls, model: str) -> HeadProfile | None:
        """The profile that ships for a model, or None; `-fast` behind the name asks for the one of few layers."""
        name = _SHIPPED.get(model)
        if name is None:
            return None
        text = files("ctxshaper.reading").joinpath("profiles", name).read_text(encoding="utf-8")
        return cls.from_dict(json.loads(text))

    @classmethod
    def automatic(cls, model: str, layers: int, heads: int) -> HeadProfile:
        """A sound choice where nothing was measured: all heads of a middle layer, minus a content-free query.

        Args:
            model: the model's name.
            layers: how many layers it has.
            heads: how many query heads a layer has.
        """
        # Attention to evidence peaks around the middle to two thirds of a decoder (methods.md 10d, 10g).
        layer = max(0, round(layers * 0.55) - 1)
        return cls(
            model=model,
            heads=tuple(Head(layer, head) for head in range(heads)),
            filter_layer=layer,
            contrast=True,
            provenance={"made_by": "automatic"},
        )
