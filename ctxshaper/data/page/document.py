"""The page as one file: no network, no script; what is hidden or shown is hidden or shown by its style."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from importlib.resources import files

from ctxshaper.data.context import Context, SetAside
from ctxshaper.data.page.escaping import attribute, shown
from ctxshaper.data.page.passage import TEXT, article, stub
from ctxshaper.data.page.summary import figures, history, stages, warnings
from ctxshaper.data.page.tiles import Judged
from ctxshaper.data.passages import Passage

_HEAD = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)
_VIEW = (
    '<fieldset class="view"><legend>Show</legend>'
    '<label><input type="checkbox" id="dropped" checked> dropped text</label> '
    '<label><input type="checkbox" id="reasons"> scores and reasons</label></fieldset>'
    '<p class="key">Marked: <span>kept</span>, <del>dropped</del>, <del class="cut">cut to fit</del>, '
    '<del class="twin">said elsewhere</del>, <ins>written by a language model</ins>, <mark>its support</mark>. '
    "Passages are numbered as in the retriever's list, from 0. Point at text, or show scores and "
    "reasons, to see why.</p>"
)


def document(context: Context) -> str:
    """The whole page. It holds no lone surrogate: UTF-8 takes it."""
    told = attribute(context.query, 80)
    judged = _judged(context)
    return (
        f"{_HEAD}<title>{told}</title><style>{_style()}</style></head><body><main>"
        f'<header><p class="kind">Shaped by ctxshaper for the query</p><h1 {TEXT}>{shown(context.query)}</h1></header>'
        f"{figures(context, len(context.given or ()))}{warnings(context)}{history(context)}{stages(context)}{_VIEW}"
        f"{_left(context, judged)}{_set_aside(context, judged)}{_gone(context, judged)}</main></body></html>\n"
    )


def framed(context: Context) -> str:
    """The page in a frame of its own, for notebooks: its style and theirs do not meet, and nothing in it runs."""
    page = escape(document(context))
    # Scripts are refused; links within the page work.
    look = "width:100%;height:36rem;border:1px solid #8884;resize:vertical"
    return f'<iframe sandbox title="shaped context" style="{look}" srcdoc="{page}"></iframe>'


@cache
def _style() -> str:
    return files("ctxshaper.data.page").joinpath("page.css").read_text(encoding="utf-8")


def _judged(context: Context) -> dict[int, list[Judged]]:
    """By passage and stage, what was decided."""
    found: dict[int, list[Judged]] = {}
    for stage in context.trace.stages:
        rows: dict[int, Judged] = {}
        for decision in stage.decisions:
            rows.setdefault(decision.passage, Judged(stage.stage, [])).decisions.append(decision)
        for rank, row in rows.items():
            found.setdefault(rank, []).append(row)
    return found


def _left(context: Context, judged: dict[int, list[Judged]]) -> str:
    articles = [
        article(f"kept{place}", passage, judged.get(passage.rank or 0, ()), note=f"read as number {place + 1}")
        for place, passage in enumerate(context.passages)
    ]
    heading = "What the generator reads, in its order" if articles else "Nothing is left for the generator to read"
    return _section("left", heading, articles)


def _set_aside(context: Context, judged: dict[int, list[Judged]]) -> str:
    return _section(
        "aside",
        "Set aside",
        [_taken(place, one, judged) for place, one in enumerate(context.set_aside)],
    )


def _taken(place: int, one: SetAside, judged: dict[int, list[Judged]]) -> str:
    score = "" if one.score is None else f" (score {one.score:.3g})"
    note = f"by {shown(one.stage)}: <bdi>{shown(one.reason)}</bdi>{score}"
    rows = judged.get(one.passage.rank or 0, ())
    return article(f"aside{place}", one.passage.keep(()), rows, "set aside", note)


def _gone(context: Context, judged: dict[int, list[Judged]]) -> str:
    """The passages of which nothing is left; those of a context read from JSON without their text."""
    known = {_name(p) for p in (*context.passages, *(one.passage for one in context.set_aside))}
    gone = [passage for passage in context.given or () if _name(passage) not in known]
    articles = [
        article(f"gone{place}", passage.keep(()), judged.get(passage.rank or 0, ()), "dropped")
        for place, passage in enumerate(gone)
    ]
    seen = {rank for rank, _ in known} | {passage.rank for passage in gone}
    articles += [stub(f"lost{rank}", rank, judged[rank]) for rank in sorted(judged) if rank not in seen]
    return _section("gone", "Dropped whole", articles)


def _name(passage: Passage) -> tuple[int | None, str]:
    return passage.rank, passage.source


def _section(name: str, heading: str, articles: Iterable[str]) -> str:
    body = "".join(articles)
    if not body and name != "left":
        return ""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>{body}</section>'
