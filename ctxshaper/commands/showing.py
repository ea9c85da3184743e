"""A shaped context for a terminal: what is kept, what is dropped, and the score that decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from ctxshaper.data import Context, Passage
from ctxshaper.data.page.escaping import visible
from ctxshaper.data.page.tiles import Judged, Tile, judged_of, tiles

# Of a passage of which nothing is left, so much shows.
_BEGINNING = 100


def show(shaped: Context, console: Console) -> None:
    """Print the passages in reading order, then those that were set aside or dropped whole.

    In colour what is dropped is dim; without colour it stands in `[-` and `-]`.
    """
    judged = judged_of(shaped.trace)
    left = {passage.rank for passage in shaped.passages}
    for passage in shaped.passages:
        size, used = len(passage.source), sum(map(len, passage.spans))
        what = "rewritten" if passage.generated else f"{used:,} of {size:,} characters kept"
        console.print(_heading(passage, what))
        console.print(_body(passage, judged.get(passage.rank or 0, ()), colour=console.is_terminal), soft_wrap=True)
        console.print()
    for aside in shaped.set_aside:
        console.print(_heading(aside.passage, f"set aside by {aside.stage}: {aside.reason}"))
        left.add(aside.passage.rank)
    for passage in shaped.given or ():
        if passage.rank not in left:
            console.print(_heading(passage, f"dropped{_best(judged.get(passage.rank or 0, ()))}"))
            console.print(Text(_shortened(passage.source), style="dim"), soft_wrap=True)


def _heading(passage: Passage, what: str) -> Text:
    title = f": {visible(passage.title)}" if passage.title else ""
    return Text.assemble((f"Passage {passage.rank}{title}", "bold"), f" · {visible(what)}")


def _body(passage: Passage, judged: Sequence[Judged], *, colour: bool) -> Text:
    if passage.generated:
        return Text(visible(passage.text), style="green")
    body = Text()
    for text, style in _parts(passage, judged):
        bare = style != "dim strike" or colour or text.isspace()
        body.append(text if bare else f"[-{text}-]", style)
    return body


def _parts(passage: Passage, judged: Sequence[Judged]) -> Iterator[tuple[str, str]]:
    """Pieces of text with their styles; in front of each that was judged by a score, that score."""
    for tile in tiles(passage, judged):
        source = passage.source[tile.start : tile.end]
        if not source.isspace() and (score := _score(tile)) is not None:
            yield f"{score:.2f} ", "cyan"
        yield visible(source), "" if tile.kept else "dim strike"


def _score(tile: Tile) -> float | None:
    """The last score; of a range that begins inside of what was judged, none: it stands in front of it already."""
    found = [d.score for _, d in tile.said if d.score is not None and d.span.start == tile.start]
    return found[-1] if found else None


def _best(judged: Sequence[Judged]) -> str:
    scores = [d.score for one in judged for d in one.decisions if d.score is not None]
    return f", best score {max(scores):.2f}" if scores else ""


def _shortened(source: str) -> str:
    text = " ".join(source[: 4 * _BEGINNING].split())
    return visible(text[:_BEGINNING] + " …" * (len(text) > _BEGINNING))
