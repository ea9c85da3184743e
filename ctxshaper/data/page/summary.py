"""The top of the page: what the shaping gained, what to know about it, what each stage did."""

from __future__ import annotations

from collections.abc import Iterable

from ctxshaper.data.context import Context
from ctxshaper.data.page.escaping import shown
from ctxshaper.data.page.passage import TEXT


def figures(context: Context, given: int) -> str:
    """Tokens, time and passages, as a list of names and values."""
    tokens, before = context.tokens, context.tokens_in
    rows = {
        "Tokens saved": f"{before - tokens:,} <small>of {before:,}</small>",
        "Tokens left": f"{tokens:,}" + (f" <small>{tokens / before:.0%}</small>" if before else ""),
        "Budget": shown(str(context.budget)),
        "Passages left": f"{len(context.passages)} <small>of {given}</small>",
        "Time": duration(context.trace.seconds),
    }
    if context.answerable is not None:
        rows["Answerable"] = f"{context.answerable:.0%}"
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows.items()) + "</dl>"


def warnings(context: Context) -> str:
    """What the user should know, if anything."""
    told = [*context.warnings, *(f"{s.stage} failed: {s.error}" for s in context.trace.stages if s.error)]
    if not told:
        return ""
    return (
        f'<section class="warnings" aria-labelledby="warnings"><h2 id="warnings">Warnings</h2>{_list(told)}</section>'
    )


def stages(context: Context) -> str:
    """A row for each stage."""
    if not context.trace.stages:
        return ""
    heads = ("Stage", "Time", "Tokens before", "Tokens after", "Units judged", "Units dropped")
    rows = []
    for stage in context.trace.stages:
        numbers = (stage.tokens_in, stage.tokens_out, len(stage.decisions), len(stage.dropped))
        cells = "".join(f"<td>{value:,}</td>" for value in numbers)
        rows.append(f'<tr><th scope="row">{shown(stage.stage)}</th><td>{duration(stage.seconds)}</td>{cells}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section aria-labelledby="stages"><h2 id="stages">Stages</h2>'
        '<div class="wide" tabindex="0" role="region" aria-label="table of stages">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def history(context: Context) -> str:
    """The chat before this query, folded."""
    if not context.history:
        return ""
    turns = "".join(
        f'<dt>{shown(turn["role"])}</dt><dd class="text" {TEXT}>{shown(turn["content"])}</dd>'
        for turn in context.history
    )
    return f"<details><summary>The chat before this query</summary><dl>{turns}</dl></details>"


def duration(seconds: float) -> str:
    """A time as people read it."""
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{1000 * seconds:.{1 if seconds < 0.1 else 0}f} ms"


def _list(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f'<li dir="auto">{shown(text)}</li>' for text in texts) + "</ul>"
