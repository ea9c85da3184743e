"""From single results to means with intervals, paired tests and break-even points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.comparison import REFERENCES, Task
from ctxshaper.evaluation.metrics import BreakEven, break_even
from ctxshaper.evaluation.paired import interval, paired_gain
from ctxshaper.evaluation.results import Row, matched
from ctxshaper.stages.attnrank.profile import Gain

# By the name of a result: its heading, and whether more is better (None: neither).
MEASURES: dict[str, tuple[str, bool | None]] = {
    "tokens_kept": ("tokens kept", None),
    "sentences": ("sentences kept", True),
    "characters": ("their characters", True),
    "passages": ("passages kept", True),
    "answer": ("answer in context", True),
    "precision": ("precision", True),
    "f2": ("F2", True),
    "abstained_rightly": ("abstained, nothing answers", True),
    "abstained_wrongly": ("abstained, evidence there", False),
    "likelihood": ("answer log-likelihood", True),
    "em": ("exact match", True),
    "f1": ("F1", True),
    "distraction": ("distraction", False),
    "order": ("order sensitivity", False),
    "order_spread": ("spread over orders", False),
    "cold_ms": ("cold ms", False),
    "warm_ms": ("warm ms", False),
}


def better(name: str) -> bool | None:
    """Whether more of a measure is better; None: neither. `name` may be that of one of several generators."""
    return MEASURES[name.partition("@")[0]][1]


def heading(name: str) -> str:
    """What people read above a measure: of several generators, with the generator's name."""
    measure, _, generator = name.partition("@")
    return f"{MEASURES[measure][0]}, {generator}" if generator else MEASURES[measure][0]


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
class Paired(Gain):
    """The mean difference on the same questions, ours less theirs; see `Gain`.

    Attributes:
        count: how many questions.
    """

    count: int


@dataclass(frozen=True, slots=True)
class Line:
    """What one recipe did under one budget.

    Attributes:
        recipe: its name.
        budget: as it was asked for; empty for the references.
        values: by measure.
        against: gain over the other method or the earlier run, by `MEASURE over NAME`, where both were measured on the
            same questions.
        cold: where shaping pays for passages that are new; None where it saves nothing.
        warm: where it pays for passages that are known.
    """

    recipe: str
    budget: str
    values: dict[str, Mean]
    against: dict[str, Paired] = field(default_factory=dict)
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
        """The measures that any line has, in the order of `MEASURES`; those of several generators side by side."""
        return _names(line.values for line in self.lines)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)


def summarize(
    results: Sequence[Row],
    *,
    data: str,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    against: Mapping[str, Sequence[Row]] | None = None,
) -> Summary:
    """Means with intervals, and paired tests: of evidence against the first recipe, of answers against everything.

    Args:
        results: of `Comparison.run`.
        data: what the questions came from.
        settings: plain JSON data, shown beside the figures.
        seed: of the bootstrap and of the permutations.
        against: by a name, the `earlier_results` of other runs: every measure but time is compared with the same
            recipe and budget there, on the questions that both hold.

    Raises:
        InvalidInputError: no results.
    """
    if not results:
        raise InvalidInputError("there are no results to summarise")
    groups: dict[Task, list[Row]] = {}
    for row in results:
        groups.setdefault((row["recipe"], row["budget"]), []).append(row)
    known = [name for name in ("sentences", "answer", "passages") if any(row.get(name) is not None for row in results)]
    evidence = known[0] if known else "tokens_kept"
    first, names = results[0]["recipe"], _names(results)
    lines = []
    for (recipe, budget), rows in groups.items():
        pairs: dict[str, tuple[str, list[tuple[Row, Row]]]] = {}
        if recipe not in REFERENCES:
            # Results of both come in the order of the questions.
            if recipe != first and (first, budget) in groups:
                pairs[f"{evidence} over {first}"] = evidence, list(zip(rows, groups[first, budget], strict=True))
            if ("full", "") in groups:
                full = list(zip(rows, groups["full", ""], strict=True))
                pairs |= {
                    f"{n} over full": (n, full) for n in names if n.partition("@")[0] in ("likelihood", "em", "f1")
                }
        for other, earlier in (against or {}).items():
            both = list(matched(rows, earlier))
            pairs |= {f"{n} over {other}": (n, both) for n in names if better(n) is not None and not n.endswith("_ms")}
        values = {name: _mean(rows, name, seed) for name in names}
        gains = {name: _gain(both, measure, seed) for name, (measure, both) in pairs.items()}
        lines.append(
            Line(
                recipe,
                budget,
                {name: value for name, value in values.items() if value is not None},
                {name: gain for name, gain in gains.items() if gain is not None},
                _break_even(rows, values.get("cold_ms")),
                _break_even(rows, values.get("warm_ms")),
            )
        )
    questions = max(len(rows) for rows in groups.values())
    return Summary(data, questions, evidence, tuple(lines), dict(settings or {}))


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The measures that rows have, in the order of `MEASURES`."""
    found = dict.fromkeys(name for row in rows for name in row)
    return [name for measure in MEASURES for name in found if name.partition("@")[0] == measure]


def _mean(rows: Sequence[Row], name: str, seed: int) -> Mean | None:
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return Mean(sum(values) / len(values), *interval(values, seed=seed), len(values)) if values else None


def _gain(pairs: Sequence[tuple[Row, Row]], name: str, seed: int) -> Paired | None:
    known = [(ours[name], theirs[name]) for ours, theirs in pairs if None not in (ours.get(name), theirs.get(name))]
    if len(known) < 2:
        return None
    gain = paired_gain([ours for ours, _ in known], [theirs for _, theirs in known], seed=seed)
    return Paired(gain.gain, gain.low, gain.high, gain.p, len(known))


def _break_even(rows: Sequence[Row], milliseconds: Mean | None) -> BreakEven | None:
    saved = sum(row["tokens_in"] - row["tokens"] for row in rows) / len(rows)
    if milliseconds is None or saved <= 0:
        return None
    return break_even(saved, milliseconds.mean / 1e3, MACHINE_PRICE)
