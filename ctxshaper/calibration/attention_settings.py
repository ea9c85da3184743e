"""Ways to turn what a head attends to into a score: tokens left out, length, a question without content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.calibration.head_masses import KINDS, UnitMass

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """How attention becomes a score.

    Attributes:
        ignore: kinds of tokens whose attention is left out.
        length: exponent of a unit's number of tokens that divides its attention: 1 is the mean, 0 the sum.
        contrast: whether the attention of a question without content is subtracted.
    """

    ignore: tuple[str, ...] = ()
    length: float = 1.0
    contrast: bool = False

    def __str__(self) -> str:
        how = {1.0: "mean", 0.5: "sum / square root", 0.0: "sum"}[self.length]
        parts = [how, *(f"without {kind}" for kind in self.ignore), *(["minus content-free"] if self.contrast else [])]
        return ", ".join(parts)


# What readers and stages do, first; then one change at a time.
SETTINGS = (
    Setting(),
    Setting(contrast=True),
    Setting(length=0.5),
    Setting(length=0.0),
    Setting(ignore=KINDS[1:2]),
    Setting(ignore=KINDS[2:3]),
    Setting(ignore=KINDS[1:]),
)


def attention_table(mass: UnitMass, setting: Setting, rows: int) -> tuple[Numbers, Numbers]:
    """[U, L * H] attention per token of each unit and of its passage, times the number of tokens: 1 is uniform.

    Args:
        mass: what the heads attend to.
        setting: how this becomes a score.
        rows: which of the `ROWS` ways the question's tokens count.
    """
    kinds = [index for index, kind in enumerate(KINDS) if kind not in setting.ignore]
    received = mass.asked[rows] - mass.nothing if setting.contrast else mass.asked[rows]
    own = received[:, kinds].sum(1, dtype=np.float64).reshape(len(mass.owners), -1)
    tokens = mass.tokens[:, kinds].sum(1)
    total = max(1, int(tokens.sum()))
    passages = int(mass.owners.max()) + 1
    whole = np.zeros((passages, own.shape[1]))
    np.add.at(whole, mass.owners, own)
    per_passage = whole / np.maximum(np.bincount(mass.owners, tokens, passages), 1)[:, None]
    divisor = np.maximum(tokens, 1.0) ** setting.length * max(1.0, tokens.mean()) ** (1 - setting.length)
    return own / divisor[:, None] * total, per_passage[mass.owners] * total
