"""The evaluation as one HTML page: a table and plots, no network, no script, every text escaped."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from ctxshaper.evaluation.plots import Points, line_plot
from ctxshaper.evaluation.summary import MACHINE_PRICE, Line, Mean, Summary, heading


def spelled(name: str, value: float) -> str:
    """A value of a measure as people read it."""
    if name.endswith("_ms"):
        return f"{value:,.0f}"
    return f"{value:.1%}" if name == "tokens_kept" else f"{value:.3f}"


def to_html(summary: Summary) -> str:
    """The page."""
    style = files("ctxshaper.evaluation").joinpath("data", "report.css").read_text(encoding="utf-8")
    settings = "; ".join(f"{key}: {value}" for key, value in summary.settings.items())
    lines = [line for line in summary.lines if line.budget]
    evidence = heading(summary.evidence)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>ctxshaper eval: {escape(summary.data)}</title><style>{style}</style></head><body><main>",
        f"<h1>What is kept of {escape(summary.data)}</h1>",
        f'<p class="note">{summary.questions} questions; {escape(settings)}. ',
        "Intervals: 95% bootstrap over questions.</p>",
        f"<h2>{escape(evidence.capitalize())} against tokens</h2>",
        line_plot(
            f"{evidence} against tokens kept",
            "tokens kept",
            evidence,
            _points(lines, summary.evidence),
        ),
        "<h2>Latency against tokens</h2>",
        '<p class="note">Milliseconds per question, logarithmic. Lines: passages read before. Time for passages that '
        "are new is in the table as cold, of a sample of the questions.</p>",
        line_plot("latency against tokens kept", "tokens kept", "milliseconds", _points(lines, "warm_ms"), log_y=True),
        "<h2>All figures</h2>",
        _table(summary),
        _gains(summary),
        _break_even(lines),
        "</main></body></html>\n",
    ]
    return "".join(parts)


def _points(lines: list[Line], name: str) -> dict[str, Points]:
    found: dict[str, list[tuple[float, float, str]]] = {}
    for line in lines:
        if name in line.values:
            x, y = line.values["tokens_kept"].mean, line.values[name].mean
            told = f"{spelled(name, y)} at {x:.1%} of the tokens"
            found.setdefault(line.recipe, []).append((x, y, told))
    return dict(found)


def _table(summary: Summary) -> str:
    names = summary.measures
    head = "".join(f'<th scope="col">{escape(heading(name))}</th>' for name in names)
    body = []
    for line in summary.lines:
        cells = "".join(f"<td>{_cell(name, line.values.get(name), summary.questions)}</td>" for name in names)
        body.append(f'<tr><th scope="row">{escape(line.recipe)}</th><td>{escape(line.budget) or "–"}</td>{cells}</tr>')
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr><th scope="col">recipe</th><th scope="col">budget</th>{head}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(name: str, value: Mean | None, questions: int) -> str:
    if value is None:
        return "–"
    if name == "tokens_kept":
        return spelled(name, value.mean)
    few = f"; n = {value.count}" if value.count < questions else ""
    return f"{spelled(name, value.mean)}<small>{spelled(name, value.low)} to {spelled(name, value.high)}{few}</small>"


def _gains(summary: Summary) -> str:
    rows = [
        f'<tr><th scope="row">{escape(line.recipe)}</th><td>{escape(line.budget)}</td><td>{escape(name)}</td>'
        f"<td>{gain.gain:+.3f}<small>{gain.low:+.3f} to {gain.high:+.3f}</small></td><td>{gain.p:.4f}</td>"
        f"<td>{gain.count}</td></tr>"
        for line in summary.lines
        for name, gain in line.against.items()
    ]
    if not rows:
        return ""
    return (
        '<h2>Paired differences</h2><p class="note">On the same questions; p of a two-sided sign-flip permutation test.'
        '</p><div class="wide" tabindex="0"><table><thead><tr><th scope="col">recipe</th><th scope="col">budget</th>'
        '<th scope="col">measure</th><th scope="col">difference</th><th scope="col">p</th>'
        '<th scope="col">questions</th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def _break_even(lines: list[Line]) -> str:
    rows = []
    for line in lines:
        cells = "".join(
            f"<td>{point.speed:,.0f}</td><td>{point.price:,.3f}</td>" if point else "<td>–</td><td>–</td>"
            for point in (line.cold, line.warm)
        )
        rows.append(f'<tr><th scope="row">{escape(line.recipe)}</th><td>{escape(line.budget)}</td>{cells}</tr>')
    return (
        '<h2>Where shaping pays</h2><p class="note">With a generator that reads fewer tokens per second than the '
        "first figure, or costs more dollars per million tokens than the second; for new passages (cold), then for "
        "known ones (warm). "
        f"The machine that shapes is taken to cost {MACHINE_PRICE:.2f} dollars an hour.</p>"
        '<div class="wide" tabindex="0"><table><thead><tr><th scope="col">recipe</th><th scope="col">budget</th>'
        '<th scope="col">cold tokens/s</th><th scope="col">cold $/M</th><th scope="col">warm tokens/s</th>'
        f'<th scope="col">warm $/M</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )
