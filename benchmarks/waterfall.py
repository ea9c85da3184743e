"""Traces as a picture: one row a span, its place in time, how long it took, and what it says. Plain SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW, _TOP, _GAP, _LABEL, _AXIS, _TIME, _WIDTH = 20, 48, 26, 230, 400, 100, 1000
# By what a span's name begins with; the first that fits.
_GROUPS = (
    ("ctxshaper.store", "store"),
    ("ctxshaper.embed", "embed"),
    ("ctxshaper.read", "read"),
    ("ctxshaper.prefill", "read"),
    ("ctxshaper.query_pass", "read"),
    ("chat", "write"),
    ("", "flow"),
)
_STYLE = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #24292f; }
.title { font-weight: 600; } .faint { fill: #59636e; } .line { stroke: #d1d9e0; }
.page { fill: #ffffff; } .flow { fill: #8c959f; } .read { fill: #1a7f64; } .store { fill: #b7791f; }
.embed { fill: #8250df; } .write { fill: #cf4a7b; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .faint { fill: #9198a1; } .line { stroke: #3d444d; } .page { fill: #0d1117; }
.flow { fill: #6e7681; } .read { fill: #3fb996; } .store { fill: #d9a441; } .embed { fill: #a98bf5; }
.write { fill: #f07ba4; }
}
"""


@dataclass(frozen=True)
class Bar:
    """One span.

    Attributes:
        name: of the span.
        depth: how many spans it lies in.
        start: milliseconds from the trace's start.
        end: likewise.
        note: what it says, in few words.
    """

    name: str
    depth: int
    start: float
    end: float
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One trace.

    Attributes:
        title: of the trace.
        bars: its spans by their start, the whole first.
    """

    title: str
    bars: Sequence[Bar]


def draw(panels: Sequence[Panel], title: str) -> str:
    """An SVG of traces, one below the other, each with a time axis of its own.

    Args:
        panels: the traces.
        title: for those who cannot see the picture.
    """
    parts, top = list[str](), 8
    for panel in panels:
        parts += _panel(panel, top)
        top += _TOP + _ROW * len(panel.bars) + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" '
        f'role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n'
        f'<rect class="page" width="{_WIDTH}" height="{top}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, top: int) -> list[str]:
    whole = max((bar.end for bar in panel.bars), default=0.0) or 1.0
    bottom = top + _TOP + _ROW * len(panel.bars)
    parts = [_text(12, top + 14, panel.title, "title")]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _LABEL + share * _AXIS
        parts.append(f'<line class="line" x1="{x:.1f}" x2="{x:.1f}" y1="{top + _TOP - 4}" y2="{bottom}"/>')
        parts.append(_text(x, top + _TOP - 8, f"{share * whole:,.0f}", "faint", "middle"))
    for place, bar in enumerate(panel.bars):
        y = top + _TOP + _ROW * place
        x, width = _LABEL + _AXIS * bar.start / whole, max(1.5, _AXIS * (bar.end - bar.start) / whole)
        group = next(group for begin, group in _GROUPS if bar.name.startswith(begin))
        parts.append(_text(12 + 14 * bar.depth, y + 14, bar.name.removeprefix("ctxshaper.")))
        parts.append(f'<rect class="{group}" x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="12" rx="2"/>')
        parts.append(_text(_LABEL + _AXIS + _TIME, y + 14, _milliseconds(bar.end - bar.start), anchor="end"))
        parts.append(_text(_LABEL + _AXIS + _TIME + 14, y + 14, bar.note, "faint"))
    return parts


def _milliseconds(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def _text(x: float, y: float, text: str, look: str = "", anchor: str = "start") -> str:
    return f'<text class="{look}" x="{x:.1f}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
