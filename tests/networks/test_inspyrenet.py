"""rmbg.networks.inspyrenet and its OpenVINO graph against the published implementation, with synthetic weights.

`inspyrenet_golden.npz` holds every 8th row and column of the logits of `InSPyReNet_SwinB` with `threshold=None`, as the package
transparent-background 1.3.4 runs it (`saliency[3]` of `forward_inspyre`), with a base size of 128.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rmbg.inference.catalog import MODELS, build
from rmbg.inference.engines import Plan
from rmbg.networks.load import fold_batch_norms, load
from tests.networks.rule import inspyrenet_weights, network_input

BASE_SIZE = 128
GOLDEN = np.load(Path(__file__).with_name("inspyrenet_golden.npz"))


@pytest.fixture(scope="module")
def network():
    network, unused = build(replace(MODELS["rmbg-1.4"], architecture="inspyrenet", size=BASE_SIZE))
    tables = {f"backbone.layers.{level}.blocks.0.attn.relative_position_index": torch.zeros(1) for level in range(4)}
    load(network, inspyrenet_weights(network.state_dict(), BASE_SIZE) | tables, unused)
    fold_batch_norms(network)
    return network.requires_grad_(False)


# The second size differs from the base size, and its sides differ, so that the axes of the attention do.
@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 160)])
def test_logits_match_the_published_network(network, height, width):
    logits = network(network_input(1, height, width).contiguous(memory_format=torch.channels_last)).numpy()
    assert logits.shape == (1, 1, height, width)
    assert np.abs(logits[..., ::8, ::8] - GOLDEN[f"inspyrenet_seed1_{height}x{width}"]).max() < 1e-4


def test_mask_matches_the_published_network_on_openvino(network):
    pytest.importorskip("rmbg.inference.openvino_import")
    from rmbg.inference.openvino_graph import build_graph
    from rmbg.inference.openvino_runner import compile_graph

    run = compile_graph(build_graph(network, BASE_SIZE), Plan("openvino", "cpu", "fp32"))
    (ours,) = run(network_input(1, BASE_SIZE, BASE_SIZE).numpy())
    expected = 1 / (1 + np.exp(-GOLDEN[f"inspyrenet_seed1_{BASE_SIZE}x{BASE_SIZE}"]))
    assert np.abs(ours[..., ::8, ::8] - expected).max() < 1e-4
