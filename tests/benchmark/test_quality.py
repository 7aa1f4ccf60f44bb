"""The quality gate: no provider may lose more than a point of the composite on the project's examples."""

from __future__ import annotations

import json

import pytest

from rmbg.settings import Settings
from tests.benchmark.baseline import STORED, TOLERATED, measure, ready

BASELINE: dict[str, dict[str, float]] = json.loads(STORED.read_text())


@pytest.mark.parametrize("name", BASELINE)
def test_quality_on_the_examples_has_not_dropped(name, tmp_path):
    settings = Settings.from_environ({})
    if name not in ready(settings):
        pytest.skip(f"{name} does not run here without a download")
    measured = measure([name], tmp_path, settings)[name]
    dropped = {part: (was, measured[part]) for part, was in BASELINE[name].items() if measured[part] < was - TOLERATED}
    assert not dropped, f"composite before and now: {dropped}"


def test_the_built_in_provider_is_held():
    assert "builtin" in BASELINE
