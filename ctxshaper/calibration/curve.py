"""Draws quality against layers and against key slots as one SVG file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ctxshaper.calibration.head_fit import SHARES
from ctxshaper.calibration.heads import Calibration, Point

_WIDTH, _HEIGHT, _TOP, _PLOT_H = 1080, 440, 60, 300
_COLOURS = ("#b4530a", "#1f5fa8")


@dataclass(frozen=True)
class _Panel:
    """One curve: where it stands, what it is drawn against, and which of its points is marked."""

    left: int
    width: int
    label: str
    points: Sequence[Point]
    names: Sequence[str]
    marked: int

    def x(self, index: int) -> float:
        return self.left + self.width * index / max(1, len(self.points) - 1)


def curve_svg(found: Calibration, title: str) -> str:
    """Both curves with the 95% band of their mean, and a mark at what was chosen.

    Args:
        found: what `calibrate` found.
        title: shown above; escaped.
    """
    layers = [str(p.layers) for p in found.by_layers]
    slots = [f"{p.slots} ({p.slots * found.slot_bytes} B)" for p in found.by_slots]
    chosen = found.chosen
    slot = next((i for i, p in enumerate(found.by_slots) if p.slots >= chosen.slots), len(slots) - 1)
    panels = (
        _Panel(60, 540, f"layers read, {chosen.slots} slots", found.by_layers, layers, chosen.layers - 1),
        _Panel(680, 340, "key slots kept (bytes a token)", found.by_slots, slots, slot),
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="60" y="24" font-size="15">{escape(title)}</text>',
    ]
    for panel in panels:
        parts += _drawn(panel)
    for index, (share, colour) in enumerate(zip(SHARES, _COLOURS, strict=True)):
        label = f"evidence kept at {share:.0%} of the tokens"
        parts.append(f'<text x="{60 + 235 * index}" y="{_HEIGHT - 10}" fill="{colour}">{label}</text>')
    parts.append(f'<text x="530" y="{_HEIGHT - 10}" fill="#666">95% of their mean</text>')
    return "\n".join((*parts, "</svg>", ""))


def _drawn(panel: _Panel) -> list[str]:
    right, middle = panel.left + panel.width, panel.left + panel.width / 2
    parts = []
    for tick in range(0, 11, 2):
        height = _y(tick / 10)
        parts.append(f'<line x1="{panel.left}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{panel.left - 8}" y="{height + 4:.1f}" text-anchor="end">{tick / 10:.1f}</text>')
    parts += [
        f'<text x="{panel.x(i):.1f}" y="{_TOP + _PLOT_H + 18}" text-anchor="middle">{panel.names[i]}</text>'
        for i in range(0, len(panel.points), max(1, len(panel.points) // 10))
    ]
    parts.append(f'<text x="{middle}" y="{_TOP + _PLOT_H + 40}" text-anchor="middle">{panel.label}</text>')
    band = [(panel.x(i), _y(p.high)) for i, p in enumerate(panel.points)]
    band += [(panel.x(i), _y(p.low)) for i, p in reversed([*enumerate(panel.points)])]
    parts.append(f'<polygon points="{_points(band)}" fill="#999" fill-opacity="0.2"/>')
    for index, colour in enumerate(_COLOURS):
        line = [(panel.x(i), _y(p.mean[index])) for i, p in enumerate(panel.points)]
        parts.append(f'<polyline points="{_points(line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    place, end = panel.x(panel.marked), "end" if panel.marked > len(panel.points) / 2 else "start"
    parts.append(
        f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_H}" stroke="#555" '
        'stroke-dasharray="4 4"/>'
    )
    label = f"chosen: {panel.names[panel.marked]}"
    parts.append(f'<text x="{place:.1f}" y="{_TOP - 6}" text-anchor="{end}">{label}</text>')
    return parts


def _y(quality: float) -> float:
    return _TOP + _PLOT_H * (1 - quality)


def _points(pairs: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
