"""No provider loses more than one point of the composite on the examples, and the built-in one has an IoU of 0.9 on each."""

from __future__ import annotations

import json

import pytest

from rmbg.settings import Settings
from tests.benchmark.baseline import STORED, TOLERANCE, composites, measured, ready
from tests.pictures import examples

BASELINE: dict[str, dict[str, float]] = json.loads(STORED.read_text())


@pytest.mark.parametrize("name", BASELINE)
def test_quality_on_the_examples_has_not_dropped(name, tmp_path):
    settings = Settings.from_environ({})
    if name not in ready(settings):
        pytest.skip(f"{name} needs a download")
    summary = measured([name], tmp_path, settings)
    now = composites(summary)[name]
    losses = {part: (was, now[part]) for part, was in BASELINE[name].items() if now[part] < was - TOLERANCE}
    assert not losses, f"composite before and now: {losses}"
    ious = {picture.sample.stem: (picture.results[name].scores or {})["iou"] for picture in summary.pictures}
    assert len(ious) == len(examples()) and (name != "builtin" or min(ious.values()) >= 90), ious


def test_the_baseline_includes_the_built_in_provider():
    assert "builtin" in BASELINE
