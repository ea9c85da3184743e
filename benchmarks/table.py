"""What a benchmark gives: a table of figures, as text for people and as JSON for comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Figures by row and column.

    Attributes:
        title: what was measured, with units.
        rows: by the row's name, its figures by column; a column that a row lacks stays empty.
        notes: sentences below the table: the machine, what was left out and why.
    """

    title: str
    rows: Mapping[str, Mapping[str, float]]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def columns(self) -> list[str]:
        """All columns, in the order in which rows bring them."""
        return list(dict.fromkeys(column for figures in self.rows.values() for column in figures))

    def __str__(self) -> str:
        lines = [f"| {self.title} | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        for name, figures in self.rows.items():
            cells = [spelled(figures[column]) if column in figures else "" for column in self.columns]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Table:
        """The table that `to_dict` described."""
        return cls(data["title"], data["rows"], tuple(data["notes"]))


def spelled(value: float) -> str:
    """A figure with the digits that it deserves: three places below 10, none from 1,000 on."""
    size = abs(value)
    if value == int(value) and size < 1e15:
        return f"{int(value):,}"
    return f"{value:.3f}" if size < 10 else f"{value:,.1f}" if size < 1000 else f"{value:,.0f}"
