"""Scatter plots: scales, points, what has none, text in the SVG."""

from __future__ import annotations

from decimal import Decimal
from xml.etree import ElementTree

import pytest

from rmbg.benchmark.plot import BOTTOM, LEFT, RIGHT, TOP, _levels, scatter

VALUES = [
    ("a <b>", Decimal(1800), 97.25),
    ("free", 0, 90.0),
    ("unknown", None, 90.0),
    ("unmeasured", 3.0, None),
    ("b", 4.7, 81.0),
]


def test_points_are_at_their_values():
    plot = scatter(VALUES, "Title", "x", "y", "$")
    assert [(point.mark, point.label, point.values) for point in plot.points] == [
        ("1", "a <b>", "97.2, $1,800"),
        ("5", "b", "81.0, $4.7"),
    ]
    assert plot.missing == ["free", "unknown", "unmeasured"]
    first, second = plot.points
    assert [label for _, label in plot.x_ticks] == ["$1", "$10", "$100", "$1,000", "$10,000"]
    assert LEFT < second.x < first.x < RIGHT and TOP < first.y < second.y < BOTTOM
    assert plot.x_ticks[0][0] < second.x < plot.x_ticks[1][0] and plot.x_ticks[3][0] < first.x < plot.x_ticks[4][0]


def test_svg_has_a_text_alternative_and_escaped_labels():
    root = ElementTree.fromstring(scatter(VALUES, "Quality & cost", "dollars", "composite", "$").svg().strip())
    assert (root.get("role"), root.get("aria-label")) == ("img", "Quality & cost")
    texts = [element.text for element in root.iter()]
    assert {"a <b>: 97.2, $1,800", "dollars", "composite", "1", "5"} <= set(texts)


def test_a_plot_without_values_has_no_points():
    plot = scatter(VALUES[1:4], "Title", "x", "y", "$")
    assert plot.points == [] and plot.missing == ["free", "unknown", "unmeasured"]


@pytest.mark.parametrize("values", [[0.0], [100.0, 100.0], [48.7, 93.8], [93.1, 93.4], [0.0, 100.0]])
def test_the_levels_of_a_plot_hold_all_values(values):
    levels = _levels(values)
    assert levels[0] <= min(values) and levels[-1] >= max(values)
    assert 2 <= len(levels) <= 7
