"""rmbg.networks.u2net and its OpenVINO graph against the published implementations, with synthetic weights.

`u2net_golden.npz` holds every 8th row and column of the published logits, before the sigmoid (after `outconv`). At 144x144 the
maps have odd sizes from the fifth stage on. The definitions are `U2NET` and `U2NETP` of xuebinqin/U-2-Net (u2net_human_seg has
the first one) and the `U2NET` with four classes of levindabhi/cloth-segmentation.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from rmbg.inference.catalog import MODELS, build
from rmbg.inference.engines import Plan
from rmbg.networks import u2net
from rmbg.networks.load import fold_batch_norms, load
from tests.networks.rule import network_input, rule_weights

SIZE = 144
GOLDEN = np.load(Path(__file__).with_name("u2net_golden.npz"))
ARCHITECTURES = ["u2net", "u2netp", "u2net-cloth"]


@cache
def synthetic(architecture: str) -> u2net.U2Net:
    network, unused = build(replace(MODELS["rmbg-1.4"], architecture=architecture, size=SIZE))
    load(network, rule_weights(network.state_dict(), 1), unused)
    fold_batch_norms(network)
    return network.requires_grad_(False)


def golden(architecture: str) -> torch.Tensor:
    return torch.from_numpy(GOLDEN[f"{architecture}_seed1_{SIZE}x{SIZE}"])


def mask(architecture: str) -> np.ndarray:
    """The published mask; of the clothes all three classes together, the first class being the background."""
    logits = golden(architecture)
    return (logits.sigmoid() if len(logits[0]) == 1 else 1 - logits.softmax(1)[:, :1]).numpy()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_match_the_published_network(architecture):
    logits = synthetic(architecture).class_logits(network_input(1, SIZE, SIZE))
    assert (logits[..., ::8, ::8] - golden(architecture)).abs().max() < 1e-4


@pytest.mark.parametrize("architecture", ["u2netp", "u2net-cloth"])
def test_mask_matches_the_published_network_on_torch(architecture):
    ours = synthetic(architecture)(network_input(1, SIZE, SIZE)).sigmoid().numpy()
    assert ours.shape == (1, 1, SIZE, SIZE)
    assert np.abs(ours[..., ::8, ::8] - mask(architecture)).max() < 1e-4


@pytest.mark.parametrize("architecture", ["u2netp", "u2net-cloth"])
def test_mask_matches_the_published_network_on_openvino(architecture):
    pytest.importorskip("rmbg.inference.openvino_import")
    from rmbg.inference.openvino_graph import build_graph
    from rmbg.inference.openvino_runner import compile_graph

    run = compile_graph(build_graph(synthetic(architecture), SIZE), Plan("openvino", "cpu", "fp32"))
    (ours,) = run(network_input(1, SIZE, SIZE).numpy())
    assert ours.shape == (1, 1, SIZE, SIZE)
    assert np.abs(ours[..., ::8, ::8] - mask(architecture)).max() < 1e-4
