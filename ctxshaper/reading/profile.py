"""Which heads of a model carry relevance, and how a reader phrases what it reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.reading.abstention import Abstention
from ctxshaper.reading.injection_probe import InjectionProbe

_SHIPPED = {"SmolLM2-135M-Instruct": "smollm2-135m-instruct.json"}
Rows = Literal["all", "content", "rare"]
_ROWS: tuple[Rows, ...] = ("all", "content", "rare")
# Where a decoder's attention to evidence peaks: GemFilter's filter layers are 13 of 32 to 19 of 32 (arXiv 2409.17422,
# section 4), the retrieval heads of arXiv 2404.15574 and the heads of QRHead (arXiv 2506.09944) lie mostly between the
# middle and two thirds. The number itself is set by hand among these.
_EVIDENCE_DEPTH = 0.55


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
        if not (_counts(self.layer) and _counts(self.head) and _positive(self.weight)):
            raise InvalidInputError(
                f"a head needs whole numbers layer >= 0 and head >= 0 and a finite weight > 0, but got "
                f"layer={self.layer!r}, head={self.head!r}, weight={self.weight!r}"
            )


@dataclass(frozen=True, slots=True)
class HeadProfile:
    """What a reader needs to know about a model.

    A token's relevance is the attention that it receives from the question's tokens (mean over these) at the chosen
    heads, each times its weight (methods: retrieval heads, arXiv 2404.15574; QRHead, arXiv 2506.09944).

    Heads come in named sets. `heads` is the set "evidence"; all heads of the filter layer are the set "gem"; `sets`
    names further ones.

    Attributes:
        model: the model's name, for provenance.
        heads: the heads that tell evidence.
        filter_layer: the layer r of GemFilter, counted from 0.
        prefix: text in front of every passage.
        before_query: text between the passages and the query.
        after_query: text behind the query.
        contrast: whether the attention of a content-free query is subtracted (In-Context Re-ranking, arXiv
            2410.02642): needed where heads were not selected by evidence.
        provenance: how the profile was made; plain JSON data.
        rows: which of the question's tokens count: "all" alike, those of "content" words only, or these by how "rare"
            they are in the passages.
        sets: further sets of heads, by name.
        abstention: how likely passages answer, by the attention of `heads`; None where it was not calibrated, and then
            `auto` never abstains.
        injection: what tells sentences that speak to the model, for `InjectionScreen`; None where none was fitted. A
            reader that screens keeps two bytes more of each token.
    """

    model: str
    heads: tuple[Head, ...]
    filter_layer: int
    prefix: str = "Here are some paragraphs:\n\n"
    before_query: str = "\n\nQuestion: "
    after_query: str = "\nAnswer:"
    contrast: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    rows: Rows = "all"
    sets: Mapping[str, tuple[Head, ...]] = field(default_factory=dict)
    abstention: Abstention | None = None
    injection: InjectionProbe | None = None

    def __post_init__(self) -> None:
        if not self.heads or not all(self.sets.values()):
            raise InvalidInputError("a head profile needs at least one head, and so does each further set")
        if self.rows not in _ROWS:
            raise InvalidInputError(f"rows must be {', '.join(map(repr, _ROWS))}, but got {self.rows!r}")
        taken = sorted(set(self.sets) & {"evidence", "gem"})
        if taken:
            raise InvalidInputError(f"the set {taken[0]!r} is `heads` or `filter_layer`; name further sets otherwise")
        if not _counts(self.filter_layer):
            raise InvalidInputError(
                f"filter_layer must be a whole number, counted from 0, but got {self.filter_layer!r}"
            )

    @property
    def layers(self) -> int:
        """How many layers must be read for the heads of evidence."""
        return max(head.layer for head in self.heads) + 1

    def heads_of(self, name: str) -> tuple[Head, ...]:
        """The heads of a set that names them one by one: "evidence", or one of `sets`.

        Raises:
            InvalidInputError: there is no such set.
        """
        found = self.heads if name == "evidence" else self.sets.get(name)
        if found is None:
            known = ", ".join(map(repr, ["evidence", "gem", *self.sets]))
            raise InvalidInputError(f"the head profile of {self.model!r} has no set {name!r}; it has {known}")
        return found

    @property
    def deepest(self) -> int:
        """The last layer that any set names, counted from 0."""
        probed = self.injection.layers[-1] if self.injection else 0
        named = (head.layer for some in (self.heads, *self.sets.values()) for head in some)
        return max(self.filter_layer, probed, *named)

    def check(self, name: str, layers: int, heads: int) -> None:
        """Refuse a profile that was made for another model.

        Args:
            name: the model's, for the error.
            layers: how many layers it has.
            heads: how many query heads a layer has.

        Raises:
            ModelError: the profile names a layer or a head that the model does not have.
        """
        if self.deepest >= layers:
            raise ModelError(
                f"the head profile of {self.model!r} names layer {self.deepest}, but {name} has {layers} (counted from "
                "0); pass a profile made for this model"
            )
        for head in (head for some in (self.heads, *self.sets.values()) for head in some):
            if head.head >= heads:
                raise ModelError(
                    f"the head profile of {self.model!r} names head {head.head}, but {name} has {heads} (counted from "
                    "0); pass a profile made for this model"
                )

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
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise InvalidInputError(f"{path} is not a head profile: {error!r:.300}") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HeadProfile:
        """The profile from plain data."""
        heads = tuple(Head(**head) for head in data["heads"])
        sets = {name: tuple(Head(**head) for head in some) for name, some in data.get("sets", {}).items()}
        abstention = Abstention.from_dict(data["abstention"]) if data.get("abstention") else None
        injection = InjectionProbe.from_dict(data["injection"]) if data.get("injection") else None
        return cls(**{**data, "heads": heads, "sets": sets, "abstention": abstention, "injection": injection})

    @classmethod
    def shipped(cls, model: str) -> HeadProfile | None:
        """The profile that ships for a model, or None."""
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
        layer = max(0, round(layers * _EVIDENCE_DEPTH) - 1)
        return cls(
            model=model,
            heads=tuple(Head(layer, head) for head in range(heads)),
            filter_layer=layer,
            contrast=True,
            provenance={"made_by": "automatic"},
        )


def _counts(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
