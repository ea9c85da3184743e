"""Which heads of a model look at what they are told, and where to their queries can be pushed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ctxshaper.errors import InvalidInputError

_SHIPPED = {"SmolLM2-135M-Instruct": "smollm2-135m-instruct.json"}


@dataclass(frozen=True, slots=True)
class ContextualHead:
    """One attention head that looks at what it is told.

    Attributes:
        layer: counted from 0.
        head: query head, counted from 0.
        score: its contextual score: how much more of the attention of an answer's tokens lies on passages that answer
            than on as much text of others.
        direction: [D] what added to its queries turns them to such passages; empty where none was fitted.
    """

    layer: int
    head: int
    score: float
    direction: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        whole = all(type(value) is int and value >= 0 for value in (self.layer, self.head))
        if not whole or not all(map(math.isfinite, (self.score, *self.direction))):
            raise InvalidInputError(f"a head needs layer >= 0, head >= 0 and finite numbers, but got {self!r:.120}")


@dataclass(frozen=True)
class SteeringProfile:
    """The contextual heads of a model (Focus Directions, arXiv 2503.23306), as `calibrate_heads` finds them.

    Attributes:
        model: the model's name.
        heads: by falling score.
        provenance: how they were found; plain JSON data.
    """

    model: str
    heads: tuple[ContextualHead, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def shipped(cls, model: str) -> SteeringProfile:
        """What ships for a model.

        Raises:
            InvalidInputError: nothing does.
        """
        if model not in _SHIPPED:
            raise InvalidInputError(
                f"no steering heads ship for {model!r}, only for {', '.join(_SHIPPED)}; find them with "
                "ctxshaper.calibration.steering.calibrate_heads(LanguageModel(...)) and pass them as profile="
            )
        text = files("ctxshaper.generators.steering").joinpath("profiles", _SHIPPED[model]).read_text(encoding="utf-8")
        return cls.from_json(text)

    @classmethod
    def load(cls, path: str | Path) -> SteeringProfile:
        """The profile in a file that `save` wrote.

        Raises:
            InvalidInputError: the file is no such profile.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, text: str) -> SteeringProfile:
        """The profile that `save` wrote.

        Raises:
            InvalidInputError: the text is no such profile.
        """
        try:
            data = json.loads(text)
            heads = tuple(
                ContextualHead(h["layer"], h["head"], float(h["score"]), tuple(map(float, h["direction"])))
                for h in data["heads"]
            )
            return cls(str(data["model"]), heads, dict(data["provenance"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InvalidInputError(f"this is not a steering profile written by save: {error!r:.200}") from error

    def check(self, model: str, layers: int, heads: int) -> None:
        """That the profile is one of this model.

        Raises:
            InvalidInputError: it is of another one.
        """
        outside = [h for h in self.heads if h.layer >= layers or h.head >= heads]
        if self.model != model or outside:
            raise InvalidInputError(
                f"the steering profile is of {self.model!r}, but the generator is {model!r} with {layers} layers of "
                f"{heads} heads; calibrate this one with ctxshaper.calibration.steering.calibrate_heads"
            )
