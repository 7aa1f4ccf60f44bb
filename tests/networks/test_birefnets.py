"""The BiRefNets of the catalog against the definition of their authors, with synthetic weights.

`golden_birefnet.npz` was computed with github.com/ZhengPeng7/BiRefNet at commit 25cb930 and the backbone swin_v1_t, from the
synthetic weights of seed 1: every 8th row and column of the logits of an input of 256x320, and of the alpha of `photo`, which
the steps of the authors' demo resize to 416x288.
"""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from rmbg.inference import preprocess
from rmbg.inference.catalog import MODELS, Model, build
from rmbg.networks.load import load
from tests.networks.rule import network_input, rule_weights

GOLDEN = Path(__file__).with_name("golden_birefnet.npz")
BIREFNETS = [model for model in MODELS.values() if model.architecture == "birefnet"]

#: SHA-256 of the names and shapes of the tensors that inference uses, as in the definition of the authors.
TENSORS = {
    "swin_l": "e5d1c95db25abbdf8cdf0d6e2d833faf5f1842637d67a93f046c3920b2519fa8",
    "swin_t": "a7753f6fdf5a515a50529f40b78a95068e846e57369812d231020990d3247fcd",
}


@pytest.mark.parametrize("backbone", TENSORS)
def test_network_has_the_published_tensors(backbone: str):
    """The models of a backbone differ in sizes and in the order of patches."""
    model = next(model for model in BIREFNETS if model.backbone == backbone)
    tensors = {name: value for name, value in build(model)[0].state_dict().items() if value.is_floating_point()}
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in tensors.items())
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == TENSORS[backbone]
    assert {model.backbone for model in BIREFNETS} == TENSORS.keys()


#: Weights that were trained after the change of the patch order.
COLORS = {
    "birefnet-hr",
    "birefnet-hr-matting",
    "birefnet-dynamic",
    "birefnet-dynamic-matting",
    "birefnet-512",
    "birefnet-lite-matting",
    "toonout",
    "lucida",
}


@pytest.mark.parametrize("model", BIREFNETS, ids=lambda model: model.id)
def test_patch_order_is_that_of_the_training(model: Model):
    assert model.patch_order == ("colors" if model.id in COLORS else "columns")


DYNAMIC = replace(MODELS["birefnet-dynamic"], backbone="swin_t")


@cache
def synthetic() -> nn.Module:
    network, unused = build(DYNAMIC)
    load(network, rule_weights(network.state_dict(), 1), unused)
    return network


def photo() -> np.ndarray:
    y, x = np.mgrid[:300, :437] / 437
    waves = [127.5 + 127.5 * np.sin(a * x + b * y) for a, b in ((19, 7), (5, 23), (31, 29))]
    return np.stack(waves, -1).astype(np.uint8)


def test_output_for_sides_that_differ():
    with torch.inference_mode():
        logits = synthetic()(network_input(1, 256, 320))[0, 0, ::8, ::8].numpy()
    assert np.abs(logits - np.load(GOLDEN)["logits_256x320"]).max() < 1e-3


def test_alpha_of_a_dynamic_input():
    image = preprocess.prepare(DYNAMIC, photo())
    assert image.shape == (1, 3, 288, 416)
    with torch.inference_mode():
        mask = synthetic()(torch.from_numpy(image)).sigmoid()[0, 0].numpy()
    alpha = preprocess.alpha(DYNAMIC, mask, 300, 437)[::8, ::8].astype(int)
    assert np.abs(alpha - np.load(GOLDEN)["alpha_437x300"]).max() <= 1


@pytest.mark.parametrize(
    ("photo", "shape"),
    [
        ((853, 1280), (1024, 1536)),
        ((1280, 853), (1536, 1024)),
        ((3000, 3000), (2048, 2048)),
        ((300, 400), (512, 512)),
        ((4000, 6000), (1536, 2304)),
    ],
)
def test_static_input_is_the_nearest(photo, shape):
    static = DYNAMIC.static(*photo)
    assert static.input_shape(*photo) == static.input_shape(1, 1) == shape


@pytest.mark.parametrize(
    ("photo", "shape"),
    [
        ((853, 1280), (832, 1280)),
        ((4000, 6000), (1536, 2304)),
        ((2304, 2304), (2304, 2304)),
        ((2305, 100), (2304, 256)),
        ((1, 1), (256, 256)),
    ],
)
def test_sides_of_a_dynamic_input_are_those_of_the_photo(photo, shape):
    assert DYNAMIC.input_shape(*photo) == shape
