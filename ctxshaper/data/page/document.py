"""The page as one file: no network, no script; what is hidden or shown is hidden or shown by its style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

from ctxshaper.data.attention import Attention
from ctxshaper.data.context import Context, SetAside
from ctxshaper.data.page.escaping import attribute, shown
from ctxshaper.data.page.heat import Mark, chooser, marks
from ctxshaper.data.page.heat import style as heat_style
from ctxshaper.data.page.passage import TEXT, article, stub
from ctxshaper.data.page.summary import figures, history, stages, warnings
from ctxshaper.data.page.tiles import Judged, judged_of
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


def document(context: Context, attention: Sequence[Attention] = ()) -> str:
    """The whole page. It holds no lone surrogate: UTF-8 takes it."""
    told = attribute(context.query, 80)
    known = _Known(judged_of(context.trace), marks(attention))
    return (
        f"{_HEAD}<title>{told}</title><style>{style()}</style></head><body><main>"
        f'<header><p class="kind">Shaped by ctxshaper for the query</p><h1 {TEXT}>{shown(context.query)}</h1></header>'
        f"{figures(context, len(context.given or ()))}{warnings(context)}{history(context)}{stages(context)}"
        f"{_VIEW}{chooser(attention)}"
        f"{_left(context, known)}{_set_aside(context, known)}{_gone(context, known)}</main></body></html>\n"
    )


def framed(context: Context) -> str:
    """The page in a frame of its own, for notebooks: its style and theirs do not meet, and nothing in it runs."""
    page = escape(document(context))
    # Scripts are refused; links within the page work.
    look = "width:100%;height:36rem;border:1px solid #8884;resize:vertical"
    return f'<iframe sandbox title="shaped context" style="{look}" srcdoc="{page}"></iframe>'


@cache
def style() -> str:
    """The style of every page: the same text each time."""
    return files("ctxshaper.data.page").joinpath("page.css").read_text(encoding="utf-8") + heat_style()


class _Known(NamedTuple):
    """By rank, what stages decided about a passage, and its tokens that were looked at."""

    judged: Mapping[int, Sequence[Judged]]
    heat: Mapping[int, Sequence[Mark]]

    def article(self, name: str, passage: Passage, state: str = "", note: str = "") -> str:
        rank = passage.rank or 0
        return article(name, passage, self.judged.get(rank, ()), self.heat.get(rank, ()), state, note)


def _left(context: Context, known: _Known) -> str:
    articles = [
        known.article(f"kept{place}", passage, note=f"read as number {place + 1}")
        for place, passage in enumerate(context.passages)
    ]
    heading = "What the generator reads, in its order" if articles else "Nothing is left for the generator to read"
    return _section("left", heading, articles)


def _set_aside(context: Context, known: _Known) -> str:
    return _section("aside", "Set aside", [_taken(place, one, known) for place, one in enumerate(context.set_aside)])


def _taken(place: int, one: SetAside, known: _Known) -> str:
    score = "" if one.score is None else f" (score {one.score:.3g})"
    note = f"by {shown(one.stage)}: <bdi>{shown(one.reason)}</bdi>{score}"
    return known.article(f"aside{place}", one.passage.keep(()), "set aside", note)


def _gone(context: Context, known: _Known) -> str:
    """The passages of which nothing is left; those of a context read from JSON without their text."""
    there = {_name(p) for p in (*context.passages, *(one.passage for one in context.set_aside))}
    gone = [passage for passage in context.given or () if _name(passage) not in there]
    articles = [known.article(f"gone{place}", passage.keep(()), "dropped") for place, passage in enumerate(gone)]
    seen = {rank for rank, _ in there} | {passage.rank for passage in gone}
    articles += [stub(f"lost{rank}", rank, known.judged[rank]) for rank in sorted(known.judged) if rank not in seen]
    return _section("gone", "Dropped whole", articles)


def _name(passage: Passage) -> tuple[int | None, str]:
    return passage.rank, passage.source


def _section(name: str, heading: str, articles: Iterable[str]) -> str:
    body = "".join(articles)
    if not body and name != "left":
        return ""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>{body}</section>'
