"""Line plots as SVG inside a page: no script, no font and no file from elsewhere; colours follow the page's theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape

# Points of one line: x, y, and what the pointer is told.
Points = Sequence[tuple[float, float, str]]

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 92, 24, 16, 64
# As many ways to draw a line as there are colours in the page, and a shape for those who see no colours.
COLORS = 10
_MARKS = ("circle", "square", "diamond", "triangle")


def line_plot(
    title: str,
    x_name: str,
    y_name: str,
    lines: Mapping[str, Points],
    *,
    log_y: bool = False,
    y_tick: Callable[[float], str] = "{:g}".format,
) -> str:
    """An SVG figure with its legend, as HTML.

    Args:
        title: read to those who cannot see the figure.
        x_name: what lies along x, in percent.
        y_name: what lies along y.
        lines: by name; those without points are left out.
        log_y: whether y is logarithmic.
        y_tick: how a tick of y is spelled.
    """
    lines = {name: sorted(points) for name, points in lines.items() if points}
    xs = [x for points in lines.values() for x, _, _ in points]
    ys = [y for points in lines.values() for _, y, _ in points]
    if not xs:
        return ""
    scale = math.log10 if log_y else float
    low_x, high_x, ticks_x = _range(min(xs), max(xs))
    if log_y:
        least, most = math.floor(scale(min(ys))), math.ceil(scale(max(ys)))
        most += least == most
        low_y, high_y, ticks_y = float(least), float(most), [10.0**power for power in range(least, most + 1)]
    else:
        low_y, high_y, ticks_y = _range(min(ys), max(ys))

    def place_x(x: float) -> float:
        return _LEFT + (x - low_x) / (high_x - low_x) * (_WIDTH - _LEFT - _RIGHT)

    def place_y(y: float) -> float:
        return _HEIGHT - _BOTTOM - (scale(y) - low_y) / (high_y - low_y) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in ticks_y:
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(y_tick(tick))}</text>')
    for tick in ticks_x:
        x = place_x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 28}" text-anchor="middle">{tick:.0%}</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_name)}')
    parts.append(f'</text><text transform="translate(20 {middle}) rotate(-90)" text-anchor="middle">{escape(y_name)}')
    parts.append("</text>")
    for number, (name, points) in enumerate(lines.items()):
        places = [(place_x(x), place_y(y), told) for x, y, told in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
        parts.append(f'<g class="c{number % COLORS}"><polyline points="{path}"/>')
        parts += [f"{_mark(number, x, y)}<title>{escape(f'{name}: {told}')}</title></path>" for x, y, told in places]
        parts.append("</g>")
    keys = "".join(
        f'<li class="c{number % COLORS}"><svg viewBox="0 0 16 16" aria-hidden="true">{_mark(number, 8, 8)}</path></svg>'
        f"{escape(name)}</li>"
        for number, name in enumerate(lines)
    )
    return f'<figure>{"".join(parts)}</svg><ul class="legend">{keys}</ul></figure>'


def _mark(number: int, x: float, y: float) -> str:
    """An open path element: a shape around a point."""
    shape = _MARKS[(number // COLORS + number) % len(_MARKS)]
    outline = {
        "circle": "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
        "square": "m-4.5 -4.5h9v9h-9z",
        "diamond": "m0 -6l6 6l-6 6l-6 -6z",
        "triangle": "m0 -6l5.5 10h-11z",
    }[shape]
    return f'<path d="M{x:.1f} {y:.1f}{outline}">'


def _range(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round ends around what is shown, and the ticks between them."""
    spread = (high - low) or abs(high) or 1.0
    step = 10 ** math.floor(math.log10(spread / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if spread / (step * factor) <= 6)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last += first == last
    return first * step, last * step, [tick * step for tick in range(first, last + 1)]
