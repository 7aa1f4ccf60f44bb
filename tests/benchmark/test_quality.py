"""No provider loses more than one point of the composite on the examples."""

from __future__ import annotations

import json

import pytest

from rmbg.settings import Settings
from tests.benchmark.baseline import STORED, TOLERANCE, measure, ready

BASELINE: dict[str, dict[str, float]] = json.loads(STORED.read_text())


@pytest.mark.parametrize("name", BASELINE)
def test_quality_on_the_examples_has_not_dropped(name, tmp_path):
    settings = Settings.from_environ({})
    if name not in ready(settings):
        pytest.skip(f"{name} needs a download")
    measured = measure([name], tmp_path, settings)[name]
    losses = {part: (was, measured[part]) for part, was in BASELINE[name].items() if measured[part] < was - TOLERANCE}
    assert not losses, f"composite before and now: {losses}"


def test_the_baseline_includes_the_built_in_provider():
    assert "builtin" in BASELINE
