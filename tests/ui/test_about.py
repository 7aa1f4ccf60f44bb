"""The About tab: the engine that runs."""

from __future__ import annotations

import importlib.metadata

import pytest

from rmbg.inference import builtin_runner, device
from rmbg.settings import Settings
from rmbg.ui.tabs import about


@pytest.mark.parametrize("variables", [{}, {"RMBG_ENGINE": "torch"}, {"RMBG_DEVICE": "cpu"}, {"RMBG_ENGINE": "openvino"}])
def test_about_names_the_engine_that_runs(variables):
    settings = Settings.from_environ({**variables, "RMBG_PRECISION": "auto"})
    plan = builtin_runner.choose_plan(settings)
    line = about.machine(settings)
    assert f"{about.ENGINES[plan.engine]} {importlib.metadata.version(plan.engine)}" in line


def test_about_tells_the_engine_of_the_builtin_provider_apart(monkeypatch):
    """On a machine with a GPU, where the other networks do not run on OpenVINO."""
    monkeypatch.setattr(device, "choose_device", lambda requested: "cpu" if requested == "cpu" else "mps")
    line = about.machine(Settings.from_environ({}))
    assert "MPS" in line and "Engine: PyTorch" in line and "runs on the CPU with OpenVINO" in line
    assert "OpenVINO" in about.machine(Settings.from_environ({"RMBG_ENGINE": "openvino"})), "which selects the CPU"
