"""Draws the curve of quality against layers as one SVG file that needs nothing else."""

from __future__ import annotations

from html import escape

from ctxshaper.calibration.heads import SHARES, Calibration

_WIDTH, _HEIGHT, _LEFT, _TOP, _PLOT_W, _PLOT_H = 720, 420, 60, 50, 620, 300
_COLOURS = ("#b4530a", "#1f5fa8")


def curve_svg(found: Calibration, title: str) -> str:
    """The curve with its 95% band, a mark at the recommended and at the fast number of layers.

    Args:
        found: what `calibrate` found.
        title: shown above; escaped.
    """
    depth = len(found.curve)

    def x(layers: int) -> float:
        return _LEFT + _PLOT_W * (layers - 1) / max(1, depth - 1)

    def y(quality: float) -> float:
        return _TOP + _PLOT_H * (1 - quality)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="15">{escape(title)}</text>',
    ]
    for tick in range(0, 11, 2):
        height = y(tick / 10)
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + _PLOT_W}" y1="{height:.1f}" y2="{height:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{height + 4:.1f}" text-anchor="end">{tick / 10:.1f}</text>')
    parts += [
        f'<text x="{x(layers):.1f}" y="{_TOP + _PLOT_H + 18}" text-anchor="middle">{layers}</text>'
        for layers in range(1, depth + 1, max(1, depth // 10))
    ]
    parts.append(f'<text x="{_LEFT + _PLOT_W / 2}" y="{_TOP + _PLOT_H + 40}" text-anchor="middle">layers read</text>')
    band = [(x(p.layers), y(p.high)) for p in found.curve] + [(x(p.layers), y(p.low)) for p in reversed(found.curve)]
    parts.append(f'<polygon points="{_points(band)}" fill="#999" fill-opacity="0.2"/>')
    for index, (share, colour) in enumerate(zip(SHARES, _COLOURS, strict=True)):
        line = [(x(p.layers), y(p.mean[index])) for p in found.curve]
        parts.append(f'<polyline points="{_points(line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        label = f"evidence kept at {share:.0%} of the tokens"
        parts.append(f'<text x="{_LEFT + 235 * index}" y="{_HEIGHT - 10}" fill="{colour}">{label}</text>')
    parts.append(f'<text x="{_LEFT + 470}" y="{_HEIGHT - 10}" fill="#666">95% of their mean</text>')
    marks: dict[int, list[str]] = {}
    for name, layers in (("fast", found.fast), ("recommended", found.recommended)):
        marks.setdefault(layers, []).append(name)
    for layers, names in marks.items():
        place, end = x(layers), "end" if layers > depth / 2 else "start"
        parts.append(
            f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" y2="{_TOP + _PLOT_H}" stroke="#555" '
            'stroke-dasharray="4 4"/>'
        )
        label = f"{', '.join(names)}: {layers}"
        parts.append(f'<text x="{place:.1f}" y="{_TOP - 6}" text-anchor="{end}">{label}</text>')
    return "\n".join((*parts, "</svg>", ""))


def _points(pairs: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
