"""From single results to means with intervals, paired tests and break-even points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.comparison import REFERENCES
from ctxshaper.evaluation.metrics import BreakEven, break_even
from ctxshaper.evaluation.paired import interval, paired_gain
from ctxshaper.stages.attnrank.profile import Gain

# By the name of a result: its heading, and whether more is better (None: neither).
MEASURES: dict[str, tuple[str, bool | None]] = {
    "tokens_kept": ("tokens kept", None),
    "sentences": ("sentences kept", True),
    "characters": ("their characters", True),
    "passages": ("passages kept", True),
    "answer": ("answer in context", True),
    "likelihood": ("answer log-likelihood", True),
    "em": ("exact match", True),
    "f1": ("F1", True),
    "distraction": ("distraction", False),
    "order": ("order sensitivity", False),
    "order_spread": ("spread over orders", False),
    "cold_ms": ("cold ms", False),
    "warm_ms": ("warm ms", False),
}
# Dollars per hour of two virtual CPU cores, about what clouds ask for.
MACHINE_PRICE = 0.10


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over questions with its 95% bootstrap interval.

    Attributes:
        mean: the mean.
        low: lower end.
        high: upper end.
        count: how many questions have this measure.
    """

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Line:
    """What one recipe did under one budget.

    Attributes:
        recipe: its name.
        budget: as it was asked for; empty for the references.
        values: by measure.
        against: gain over the other method, by `MEASURE over NAME`, where both were measured on the same questions.
        cold: where shaping pays for passages that are new; None where it saves nothing.
        warm: where it pays for passages that are known.
    """

    recipe: str
    budget: str
    values: dict[str, Mean]
    against: dict[str, Gain] = field(default_factory=dict)
    cold: BreakEven | None = None
    warm: BreakEven | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """All lines of a comparison.

    Attributes:
        data: what the questions came from.
        questions: how many.
        evidence: the measure that evidence is judged by: supporting sentences where they are marked, else the answer,
            else passages.
        lines: by recipe and budget, in the order in which they were asked for.
        settings: plain JSON data.
    """

    data: str
    questions: int
    evidence: str
    lines: tuple[Line, ...]
    settings: dict[str, Any]

    @property
    def measures(self) -> list[str]:
        """The measures that any line has, in the order of `MEASURES`."""
        return [name for name in MEASURES if any(name in line.values for line in self.lines)]

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)


def summarize(results: Sequence[dict[str, Any]], *, data: str, settings: dict[str, Any], seed: int = 0) -> Summary:
    """Means with intervals, and paired tests: of evidence against the first recipe, of answers against everything.

    Args:
        results: of `Comparison.run`.
        data: what the questions came from.
        settings: plain JSON data, shown beside the figures.
        seed: of the bootstrap and of the permutations.

    Raises:
        InvalidInputError: no results.
    """
    if not results:
        raise InvalidInputError("there are no results to summarise")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results:
        groups.setdefault((row["recipe"], row["budget"]), []).append(row)
    known = [name for name in ("sentences", "answer", "passages") if any(row.get(name) is not None for row in results)]
    evidence = known[0] if known else "tokens_kept"
    first = results[0]["recipe"]
    lines = []
    for (recipe, budget), rows in groups.items():
        values = {name: _mean(rows, name, seed) for name in MEASURES}
        against = {}
        if recipe not in REFERENCES:
            if recipe != first and (first, budget) in groups:
                against[f"{evidence} over {first}"] = _gain(rows, groups[first, budget], evidence, seed)
            for name in ("likelihood", "em", "f1"):
                if ("full", "") in groups:
                    against[f"{name} over full"] = _gain(rows, groups["full", ""], name, seed)
        lines.append(
            Line(
                recipe,
                budget,
                {name: value for name, value in values.items() if value is not None},
                {name: gain for name, gain in against.items() if gain is not None},
                _break_even(rows, values["cold_ms"]),
                _break_even(rows, values["warm_ms"]),
            )
        )
    questions = max(len(rows) for rows in groups.values())
    return Summary(data, questions, evidence, tuple(lines), settings)


def _mean(rows: Sequence[dict[str, Any]], name: str, seed: int) -> Mean | None:
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return Mean(sum(values) / len(values), *interval(values, seed=seed), len(values)) if values else None


def _gain(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], name: str, seed: int) -> Gain | None:
    # Results of both come in the order of the questions.
    pairs = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True) if None not in (a.get(name), b.get(name))]
    return paired_gain([a for a, _ in pairs], [b for _, b in pairs], seed=seed) if len(pairs) > 1 else None


def _break_even(rows: Sequence[dict[str, Any]], milliseconds: Mean | None) -> BreakEven | None:
    saved = sum(row["tokens_in"] - row["tokens"] for row in rows) / len(rows)
    if milliseconds is None or saved <= 0:
        return None
    return break_even(saved, milliseconds.mean / 1e3, MACHINE_PRICE)
