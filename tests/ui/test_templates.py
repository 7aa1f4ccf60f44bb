"""HTML fragments: values are escaped, missing values raise."""

from __future__ import annotations

from decimal import Decimal

import jinja2
import numpy as np
import pytest

from rmbg.benchmark.plot import scatter
from rmbg.billing.cost import Cost
from rmbg.compare.agreement import agreement
from rmbg.compare.comparison import Outcome
from rmbg.compare.votes import Rating
from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.ui.components import viewer
from rmbg.ui.tabs import compare_view
from rmbg.ui.templates import render

HOSTILE = "\"><img src=x onerror=alert(1)> ' &"
ESCAPED = "&#34;&gt;&lt;img src=x onerror=alert(1)&gt; &#39; &amp;"

RGB = np.full((4, 6, 3), 90, np.uint8)

GRID = {"width": 6, "height": 4, "scene": HOSTILE, "keys": "keys"}


def cutout(name: str) -> Cutout:
    matte = np.ones((4, 6), np.float32)
    return Cutout(Photo(RGB, name=HOSTILE), matte, RGB, name, 0.5, Cost(Decimal("0.01"), "charged"), engine=HOSTILE)


@pytest.mark.parametrize(
    "markup",
    [
        viewer.notice(HOSTILE),
        viewer.placeholder(HOSTILE, HOSTILE, HOSTILE),
        viewer.slider(*[viewer.photo_layer(HOSTILE)] * 2, (HOSTILE, HOSTILE), (6, 4), (6, 4), "keys"),
        viewer.fact_line([HOSTILE], [HOSTILE]),
        compare_view.table_of(agreement([Outcome("builtin", cutout("builtin"))], "builtin"), "builtin", lambda name: HOSTILE),
        compare_view.table_of(agreement([Outcome("builtin", None, HOSTILE)], "builtin"), "builtin", str),
        compare_view.difference_map(cutout("builtin"), cutout("rmbg-1.4"), (HOSTILE, HOSTILE)),
        compare_view.ratings([Rating(HOSTILE, 1000, 900, 1100, 2, 1)], 2),
        render("compare_grid.html", **GRID, panes=[viewer.PaneContent(HOSTILE, HOSTILE, None, HOSTILE)]),
        render("report_frame.html", report=HOSTILE),
        render(
            "plot.html", plot=scatter([(HOSTILE, 1.0, 90.0), (HOSTILE, None, 9.0)], HOSTILE, HOSTILE, HOSTILE, "$"), note=""
        ),
    ],
)
def test_values_are_escaped(markup):
    assert ESCAPED in markup
    assert "<img src=x" not in markup and "'" not in markup


def test_a_missing_value_raises():
    with pytest.raises(jinja2.UndefinedError):
        render("note.html")
