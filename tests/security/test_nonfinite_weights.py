"""Weights with or leading to NaN or infinity are an error, never an empty cutout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.command import PATIENCE, message, save_scene, start
from tests.networks.rule import rule_weights

#: Tensor, its new value, and the engines that detect it. OpenVINO computes with 0 instead of NaN, so an overflow during
#: inference is detected on torch only. The check of the weights is the same for both.
CASES = {
    "infinity": ("conv_in.weight", float("inf"), ("openvino",)),
    "NaN after folding": ("stage1.rebnconvin.bn_s1.running_var", -1.0, ("torch",)),
    "overflow": ("conv_in.weight", 3e38, ("torch",)),
}


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    from rmbg.networks.isnet import ISNet

    with torch.device("meta"):
        network = ISNet()
    return rule_weights(network.state_dict(), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "engine"), [(case, engine) for case, (_, _, engines) in CASES.items() for engine in engines])
def test_damaged_weights_are_an_error(tensors, tmp_path: Path, case, engine):
    """NaN and infinity are detected when weights are loaded, an overflow during inference in the output."""
    if engine == "openvino":
        pytest.importorskip("rmbg.inference.engines")
    name, value, _ = CASES[case]
    spoiled = {**tensors, name: tensors[name].clone()}
    spoiled[name].view(-1)[3 if case == "infinity" else slice(None)] = value
    save_file(spoiled, tmp_path / "rmbg-1.4.safetensors")
    photo, out = save_scene(tmp_path / "photo.png"), tmp_path / "out.png"
    more = {"RMBG_WEIGHTS": str(tmp_path), "RMBG_DATA": str(tmp_path / "data"), "RMBG_ENGINE": engine, "RMBG_DEVICE": "cpu"}
    with start("remove", photo, out, "--provider", "rmbg-1.4", environment=more) as process:
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "NaN or infinite" in message(error) and "rmbg-1.4" in message(error)
    assert not out.exists()
