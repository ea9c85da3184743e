"""One passage on the page: what is left of it, what was dropped and why, what was written instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from ctxshaper.data.page.escaping import attribute, shown
from ctxshaper.data.page.heat import Mark, heated
from ctxshaper.data.page.tiles import Judged, Tile, tiles
from ctxshaper.data.passages import Passage
from ctxshaper.data.spans import Span
from ctxshaper.data.trace import Decision

# How the reasons of `ctxshaper.stages` begin that have a look of their own.
_LOOKS = {"cut to fit": "cut", "says the same as": "twin"}
# Texts of passages may be in any language, and say by themselves where their lines begin.
TEXT = 'dir="auto" lang=""'


def article(
    name: str, passage: Passage, judged: Sequence[Judged], heat: Sequence[Mark], state: str = "", note: str = ""
) -> str:
    """A passage.

    Args:
        name: begins all ids in it; unique on the page.
        passage: with the pieces that are left of it.
        judged: by stage, what it decided about this passage.
        heat: its tokens that a query looked at.
        state: what became of it, in a word or two; found in its pieces if empty.
        note: more about it, as HTML.
    """
    if not state:
        state = "rewritten" if passage.generated else "kept whole" if passage.complete else "shortened"
    facts = [f"<b>{state}</b>", note, _share(passage)]
    if passage.id is not None:
        facts.append(f"id <bdi>{shown(passage.id)}</bdi>")
    if passage.score is not None:
        facts.append(f"retriever's score {passage.score:.4g}")
    body = f'<div class="text" {TEXT}>{"".join(_source(name, passage, judged, heat))}</div>'
    if passage.generated:
        body = f"<h4>As the generator reads it</h4>{_written(name, passage)}<h4>Its source</h4>{body}"
    return _framed(name, passage.rank, passage.title, facts, body)


def _share(passage: Passage) -> str:
    size, used = len(passage.source), sum(map(len, passage.spans))
    if used in (0, size) and not passage.generated:
        return f"{size:,} characters"
    return f"{used:,} of {size:,} characters {'kept or supporting' if passage.generated else 'kept'}"


def stub(name: str, rank: int, judged: Sequence[Judged]) -> str:
    """A passage of which only the trace knows."""
    said = {f"{one.stage}: {decision.reason}": None for one in judged for decision in one.decisions}
    reasons = "".join(f"<li>{shown(reason)}</li>" for reason in list(said)[:20])
    body = f"<p>Its text did not come with this context. What was decided about it:</p><ul>{reasons}</ul>"
    return _framed(name, rank, "", ["<b>dropped</b>"], body)


def _framed(name: str, rank: int | None, title: str, facts: Iterable[str], body: str) -> str:
    told = f": <bdi {TEXT}>{shown(title)}</bdi>" if title else ""
    return (
        f'<article aria-labelledby="{name}"><h3 id="{name}">Passage {rank}{told}</h3>'
        f'<p class="facts">{" · ".join(filter(None, facts))}</p>{body}</article>'
    )


def _source(name: str, passage: Passage, judged: Sequence[Judged], heat: Sequence[Mark]) -> Iterator[str]:
    """The whole source; neighbouring ranges that are dropped stand in one element, which can be hidden as one."""
    found = tiles(passage, judged)
    for gone, group in groupby(found, key=lambda tile: not (tile.kept or tile.supports)):
        inner = [_tile(name, tile, passage.source[tile.start : tile.end], heat) for tile in group]
        # White space between kept sentences is nobody's loss.
        yield (
            f'<span class="gone">{"".join(inner)}</span>'
            if gone and any("<" in one for one in inner)
            else "".join(inner)
        )


def _tile(name: str, tile: Tile, source: str, heat: Sequence[Mark]) -> str:
    text = heated(source, tile.start, heat)
    if tile.supports:
        told = _told(tile) or "supports what was written"
        return f'<mark id="{name}-{tile.start}" title="{attribute(told)}">{text}</mark>'
    if tile.kept:
        told = _told(tile)
        return f'<span title="{attribute(told)}">{text}</span>' if told else text
    if source.isspace():
        return text
    last = next((d.reason for _, d in reversed(tile.said) if not d.kept), "")
    look = next((f' class="{look}"' for start, look in _LOOKS.items() if last.startswith(start)), "")
    return f'<del{look} title="{attribute(_told(tile) or "dropped; no stage says why")}">{text}</del>'


def _told(tile: Tile) -> str:
    """What all stages said about it, in a line."""
    return "; ".join(f"{'kept' if d.kept else 'dropped'} by {stage}: {d.reason}{_score(d)}" for stage, d in tile.said)


def _score(decision: Decision) -> str:
    return "" if decision.score is None else f" (score {decision.score:.3g})"


def _written(name: str, passage: Passage) -> str:
    """What the passage now says, each written piece with links to what supports it."""
    parts, number = [], 0
    for placed in passage.placed():
        text = shown(placed.text)
        if placed.generated:
            quoted = " … ".join(_quoted(passage, placed.spans)) or "nothing: it cites no text of its passage"
            text = f'<ins title="{attribute(f"Supported by: {quoted}")}">{text}</ins>'
            links = []
            for span in placed.spans:
                number += 1
                links.append(f'<a href="#{name}-{span.start}" aria-label="support {number}">{number}</a>')
            text += f"<sup>{' '.join(links)}</sup>" if links else ""
        parts.append(shown(placed.gap) + text)
    return f'<div class="text" {TEXT}>{"".join(parts)}</div>'


def _quoted(passage: Passage, spans: Iterable[Span]) -> Iterator[str]:
    """The beginning of what supports it: what a title holds."""
    room = 600
    for span in spans:
        if room <= 0:
            return
        yield passage.source[span.start : min(span.end, span.start + room + 1)]
        room -= len(span)
