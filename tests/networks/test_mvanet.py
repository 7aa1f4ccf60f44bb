"""rmbg.networks.mvanet and its OpenVINO graph against the published implementations, with synthetic weights.

`mvanet_golden.npz` holds every 8th row and column of the logits of `BEN_Base` of PramaLLC/BEN2 41efc69, before its sigmoid, and
of `inf_MVANet` of qianyu-dlut/MVANet edecec5, whose weights are computed from the names that they have in a checkpoint of
finegrain-ai/refiners 720a91a (its own definition is for 1024x1024 only). It also holds the names of the tensors of `BEN_Base`
and of the `MVANet` of refiners.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rmbg.inference import torch_runner
from rmbg.inference.catalog import MODELS, build
from rmbg.inference.engines import Plan
from rmbg.inference.weights import WeightsFile
from rmbg.networks import mvanet
from tests.networks.rule import network_input, rule_tensor

GOLDEN = np.load(Path(__file__).with_name("mvanet_golden.npz"))
SIZE = 256


def model(architecture):
    return replace(MODELS["birefnet"], architecture=architecture, backbone=None, patch_order=None, size=SIZE)


def published_names(architecture):
    return str(GOLDEN[f"{architecture}_names"]).split("\n")


def checkpoint(architecture):
    """Synthetic checkpoint with the published names."""
    network, unused = build(model(architecture))
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    names = published_names(architecture)
    ours = mvanet.rename(dict(zip(names, names, strict=True)))
    return {
        name: torch.from_numpy(rule_tensor(name, tuple(shapes.get(key, (1,))), 1))
        for key, name in ours.items()
        if key in shapes or any(part in key for part in unused)
    }


@pytest.fixture(scope="module", params=["ben2", "mvanet"])
def case(request):
    """An architecture, its network with synthetic weights, and the published logits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_runner.weights, "read", lambda file: checkpoint(request.param))
        network = torch_runner.load_network(model(request.param), WeightsFile(Path("synthetic"), ""))
    return SimpleNamespace(network=network, logits=GOLDEN[f"{request.param}_seed1_{SIZE}x{SIZE}"])


def test_logits_match_the_published_network(case):
    logits = case.network(network_input(1, SIZE, SIZE).contiguous(memory_format=torch.channels_last)).numpy()
    assert logits.shape == (1, 1, SIZE, SIZE)
    assert np.abs(logits[..., ::8, ::8] - case.logits).max() < 1e-3


def test_logits_match_the_published_network_on_openvino(case):
    pytest.importorskip("openvino")
    from rmbg.inference.openvino_graph import build_graph
    from rmbg.inference.openvino_import import ov
    from rmbg.inference.openvino_runner import compile_graph

    graph = build_graph(case.network, SIZE)
    mask = graph.output().get_node().input_value(0).get_node()
    assert mask.get_type_name() == "Sigmoid"
    run = compile_graph(ov.Model([mask.input_value(0)], graph.get_parameters()), Plan("openvino", "cpu", "fp32"))
    (logits,) = run(network_input(1, SIZE, SIZE).numpy())
    assert np.abs(logits[..., ::8, ::8] - case.logits).max() < 1e-3


@pytest.mark.parametrize("architecture", ["ben2", "mvanet"])
def test_every_published_tensor_is_used_or_listed_as_unused(architecture):
    network, unused = build(model(architecture))
    names = published_names(architecture)
    renamed = mvanet.rename(dict.fromkeys(names, torch.zeros(1)))
    assert len(renamed) == len(names)
    needed = {name for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    assert {name for name in renamed if not any(part in name for part in unused)} == needed


def test_names_of_the_original_checkpoints_are_kept():
    with torch.device("meta"):
        tensors = mvanet.MVANet(mvanet.MVANET).state_dict()
    assert mvanet.rename(tensors).keys() == tensors.keys()


@pytest.mark.parametrize("module", [mvanet.Localization, mvanet.Refinement])
def test_images_of_a_batch_do_not_affect_each_other(module):
    torch.manual_seed(0)
    module = module(mvanet.BEN2).eval()
    first, second = torch.randn(2, 5, mvanet.CHANNELS, 8, 8)
    both = torch.stack((first, second), 1).flatten(0, 1)
    with torch.inference_mode():
        found = module(both).unflatten(0, (5, 2))
        assert torch.allclose(found[:, 0], module(first), atol=1e-5)
        assert torch.allclose(found[:, 1], module(second), atol=1e-5)
