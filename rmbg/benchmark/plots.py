"""Layout of scatter plots with a logarithmic x axis; the template ``scatter.svg`` draws them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

#: Size of a plot and its margins, in the units of the SVG.
WIDTH, HEIGHT = 560, 340
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 52, 24, 18, 46


@dataclass(frozen=True)
class Point:
    """A provider in a plot; `mark` is the short text in its circle."""

    mark: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class Tick:
    """A labeled grid line."""

    position: float
    label: str


@dataclass(frozen=True)
class ScatterPlot:
    """Positions of all parts of a plot, in the units of the SVG.

    Attributes
    ----------
    title : str
        Also the text alternative of the plot.
    x_title, y_title : str
    x_ticks, y_ticks : tuple of Tick
    points : tuple of (float, float, Point)
        Center of each circle.
    left, right, top, bottom : int
        Edges of the plot area.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[tuple[float, float, Point], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = MARGIN_LEFT
    right: int = WIDTH - MARGIN_RIGHT
    top: int = MARGIN_TOP
    bottom: int = HEIGHT - MARGIN_BOTTOM


def scatter(points: list[Point], *, title: str, x_title: str, y_title: str, tick: Callable[[float], str]) -> ScatterPlot:
    """Lay out a scatter plot.

    Parameters
    ----------
    points : list of Point
        `x` above zero, `y` from 0 to 100. An empty list gives a plot without grid lines.
    tick : callable
        Formats a value of the x axis.
    """
    if not points:
        return ScatterPlot(title, x_title, y_title, (), (), ())
    low, high = _decades([point.x for point in points])
    levels = _levels([point.y for point in points])

    def to_x(value: float) -> float:
        return MARGIN_LEFT + (math.log10(value) - low) / (high - low) * (WIDTH - MARGIN_LEFT - MARGIN_RIGHT)

    def to_y(value: float) -> float:
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return HEIGHT - MARGIN_BOTTOM - share * (HEIGHT - MARGIN_TOP - MARGIN_BOTTOM)

    return ScatterPlot(
        title,
        x_title,
        y_title,
        x_ticks=tuple(Tick(to_x(10.0**power), tick(10.0**power)) for power in range(low, high + 1)),
        y_ticks=tuple(Tick(to_y(level), str(level)) for level in levels),
        points=tuple((to_x(point.x), to_y(point.y), point) for point in points),
    )


def _decades(values: list[float]) -> tuple[int, int]:
    """Exponents of the powers of ten below the smallest and above the largest value."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _levels(values: list[float]) -> range:
    """Round levels of a score that enclose `values`: at most six steps, both ends included."""
    low, high = max(0.0, min(values) - 1), min(100.0, max(values) + 1)
    for step in (1, 2, 5, 10, 20):
        bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
        if top - bottom <= 6 * step:
            break
    return range(bottom, top + 1, step)
