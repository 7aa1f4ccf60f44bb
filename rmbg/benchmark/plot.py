"""Scatter plot of a quality against a cost or a time, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup

from rmbg.runtime.templates import environment

#: Edges of the area of a scatter plot, and its size, in the units of the SVG.
LEFT, RIGHT, TOP, BOTTOM = 52, 536, 18, 294
WIDTH, HEIGHT = 560, 340


@dataclass(frozen=True)
class Point:
    """Center of a circle, the short text in it, its label, and its values as text."""

    x: float
    y: float
    mark: str
    label: str
    values: str


@dataclass(frozen=True)
class ScatterPlot:
    """Scatter plot with a logarithmic x axis.

    Attributes
    ----------
    title : str
        Also the text alternative of the plot.
    x_title, y_title : str
    x_ticks, y_ticks : list of (float, str)
        Position and label of each grid line.
    points : list of Point
    missing : list of str
        Labels without a point.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    points: list[Point]
    missing: list[str]

    def svg(self) -> Markup:
        """Return the plot without its title, labels and values, which the page shows beside it."""
        template = environment("rmbg.benchmark").get_template("scatter.svg")
        return Markup(template.render(plot=self, size=(WIDTH, HEIGHT), area=(LEFT, RIGHT, TOP, BOTTOM)))


def scatter(
    values: Iterable[tuple[str, float | Decimal | None, float | None]], title: str, x_title: str, y_title: str, unit: str
) -> ScatterPlot:
    """Lay out a plot.

    Parameters
    ----------
    values : iterable of (str, number or None, float or None)
        Label, x, and y from 0 to 100. Marks are the ranks in this order. Without an x above zero or a y, there is no point.
    title, x_title, y_title : str
    unit : str
        Precedes the labels of the x axis.
    """
    found, missing = [], []
    for rank, (label, x, y) in enumerate(values, 1):
        if x and y is not None:
            found.append((float(x), y, str(rank), label))
        else:
            missing.append(label)
    if not found:
        return ScatterPlot(title, x_title, y_title, [], [], [], missing)
    low, high = _decades([x for x, *_ in found])
    levels = _levels([y for _, y, *_ in found])

    def to_x(value: float) -> float:
        return LEFT + (math.log10(value) - low) / (high - low) * (RIGHT - LEFT)

    def to_y(value: float) -> float:
        return BOTTOM - (value - levels[0]) / (levels[-1] - levels[0]) * (BOTTOM - TOP)

    x_ticks = [(to_x(10.0**power), f"{unit}{10.0**power:,.10g}") for power in range(low, high + 1)]
    y_ticks = [(to_y(level), str(level)) for level in levels]
    points = [Point(to_x(x), to_y(y), mark, label, f"{y:.1f}, {unit}{float(f'{x:.3g}'):,.10g}") for x, y, mark, label in found]
    return ScatterPlot(title, x_title, y_title, x_ticks, y_ticks, points, missing)


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
