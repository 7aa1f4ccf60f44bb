"""Scatter plots as SVG: quality against something that is counted, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 52, 24, 18, 46


@dataclass(frozen=True)
class Point:
    """A provider in a plot; `mark` is the short text in its circle."""

    mark: str
    label: str
    x: float
    y: float


def scatter(points: list[Point], *, title: str, x_title: str, y_title: str, tick: Callable[[float], str]) -> str:
    """An SVG that fills the width it is given.

    Parameters
    ----------
    points : list of Point
        `x` above zero, `y` 0 to 100.
    title : str
        For those who cannot see it.
    tick : callable
        How a value of the x axis is written.
    """
    low, high = _decades([point.x for point in points])
    levels = _levels([point.y for point in points])
    bottom, top = levels[0], levels[-1]

    def across(x: float) -> float:
        return LEFT + (math.log10(x) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        return HEIGHT - BOTTOM - (y - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for power in range(low, high + 1):
        x = across(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(_text(x, HEIGHT - BOTTOM + 17, tick(10.0**power), "middle"))
    for level in levels:
        y = down(level)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, str(level), "end"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle", "axis"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<g transform="rotate(-90 14 {middle})">{_text(14, middle, y_title, "middle", "axis")}</g>')
    for point in points:
        x, y = across(point.x), down(point.y)
        parts.append(f'<g class="point"><title>{escape(point.label)}: {point.y:.1f}</title>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9.5"/>{_text(x, y + 4, point.mark, "middle", "mark")}</g>')
    return "\n".join([*parts, "</svg>"])


def _text(x: float, y: float, text: str, anchor: str, name: str = "tick") -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _decades(values: list[float]) -> tuple[int, int]:
    """Powers of ten below the smallest and above the largest value."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _levels(values: list[float]) -> range:
    """Round levels of a score that `values` lie between, at most six steps of them, as a range that includes both ends."""
    low, high = max(0.0, min(values) - 1), min(100.0, max(values) + 1)
    for step in (1, 2, 5, 10, 20):
        bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
        if top - bottom <= 6 * step:
            break
    return range(bottom, top + 1, step)
