"""rmbg.networks against the published implementations, with synthetic weights.

`golden.npz` holds every 8th row and column of the published outputs. The full outputs and the published tensor lists are too
large for the repository; their tests are skipped without them.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rmbg.networks import birefnet, isnet
from rmbg.networks.load import fold_batch_norms, load
from tests.networks.rule import network_input, rule_weights

SAMPLED = Path(__file__).with_name("golden.npz")
WHOLE = Path(__file__).parents[3] / "shared" / "golden"
needs_whole = pytest.mark.skipif(not WHOLE.is_dir(), reason="the full golden files are not available")

CASES = {
    "rmbg-1.4_seed1_256x256": 1e-4,
    "rmbg-1.4_seed2_256x256": 1e-4,
    "rmbg-2.0_seed1_256x256": 1e-3,
    "rmbg-2.0_seed1_256x320": 1e-3,
    "birefnet_seed1_256x256": 1e-3,
}

#: Cases of networks that another case tests: with sides that are equal, and with other weights.
REPEATED = ("rmbg-2.0_seed1_256x256", "rmbg-1.4_seed2_256x256")
PARAMETERS = [pytest.param(case, marks=pytest.mark.long if case in REPEATED else ()) for case in CASES]


@cache
def synthetic_isnet(seed: int) -> isnet.ISNet:
    with torch.device("meta"):
        network = isnet.ISNet().eval()
    load(network, rule_weights(network.state_dict(), seed), isnet.UNUSED)
    return network


@cache
def synthetic_birefnet() -> birefnet.BiRefNet:
    with torch.device("meta"):
        network = birefnet.BiRefNet(birefnet.SWIN_L, "columns").eval()
    load(network, rule_weights(network.state_dict(), 1), birefnet.UNUSED)
    return network


@cache
def output(case: str) -> np.ndarray:
    """Output of our network for a golden file: float32 (1, 1, height, width)."""
    model, seed, size = case.split("_")
    height, width = map(int, size.split("x"))
    image = network_input(int(seed.removeprefix("seed")), height, width)
    with torch.inference_mode():
        if model == "rmbg-1.4":
            return synthetic_isnet(int(seed.removeprefix("seed")))(image).sigmoid().numpy()
        network = synthetic_birefnet()
        network.decoder.patch_order = "columns" if model == "rmbg-2.0" else "colors"
        return network(image).numpy()


@pytest.mark.parametrize("case", PARAMETERS)
def test_output_matches_the_published_network(case):
    assert np.abs(output(case)[..., ::8, ::8] - np.load(SAMPLED)[case]).max() < CASES[case]


@needs_whole
@pytest.mark.parametrize("case", PARAMETERS)
def test_full_output_matches_the_published_network(case):
    (expected,) = np.load(WHOLE / f"{case}.npz").values()
    assert np.abs(output(case) - expected).max() < CASES[case]


def test_the_patch_orders_give_different_outputs():
    golden = np.load(SAMPLED)
    assert np.abs(golden["rmbg-2.0_seed1_256x256"] - golden["birefnet_seed1_256x256"]).max() > 0.1


def test_folded_batch_norms_give_the_same_output():
    with torch.device("meta"):
        network = isnet.ISNet().eval()
    load(network, rule_weights(network.state_dict(), 1), isnet.UNUSED)
    fold_batch_norms(network)
    with torch.inference_mode():
        mask = network(network_input(1, 256, 256)).sigmoid().numpy()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert np.abs(mask - output("rmbg-1.4_seed1_256x256")).max() < 1e-5


@needs_whole
@pytest.mark.parametrize(
    ("model", "network", "unused"),
    [
        ("rmbg-1.4", synthetic_isnet, isnet.UNUSED),
        ("rmbg-2.0", lambda seed: synthetic_birefnet(), birefnet.UNUSED),
    ],
)
def test_every_published_tensor_is_used_or_listed_as_unused(model, network, unused):
    published = {
        name: shape
        for name, (shape, dtype) in json.loads((WHOLE / f"{model}.tensors.json").read_text()).items()
        if dtype.startswith("float") and not any(part in name for part in unused)
    }
    tensors = network(1).state_dict()
    assert published == {name: list(value.shape) for name, value in tensors.items() if value.is_floating_point()}
