"""rmbg.networks.load and the building blocks: checkpoints, deformable convolution, patches, window masks."""

import pytest
import torch

from rmbg.networks.birefnet import SWIN_T, UNUSED, BiRefNet, deform_conv2d, image_patches, shifted_window_mask
from rmbg.networks.isnet import ISNet
from rmbg.networks.load import WrongTensorsError, fold_batch_norms, load, unwrapped
from tests.networks.rule import rule_weights


@pytest.fixture
def network():
    with torch.device("meta"):
        return ISNet().eval()


@pytest.fixture(scope="module")
def generated():
    with torch.device("meta"):
        return rule_weights(ISNet().state_dict(), 1)


@pytest.fixture
def weights(generated):
    """Weights of which a test may replace tensors."""
    return dict(generated)


def test_a_missing_tensor_is_named(network, weights):
    del weights["stage3.rebnconv2.conv_s1.weight"]
    with pytest.raises(WrongTensorsError, match=r"Tensors are missing from it: stage3\.rebnconv2\.conv_s1\.weight\."):
        load(network, weights, ())


def test_weights_of_another_network_are_rejected(network):
    with torch.device("meta"):
        other = BiRefNet(SWIN_T, "colors").state_dict()
    with pytest.raises(WrongTensorsError, match=r"another network: without .* and .* more; with .* and .* more"):
        load(network, other, UNUSED)


def test_a_wrong_shape_is_named(network, weights):
    weights["conv_in.weight"] = torch.zeros(64, 4, 3, 3)
    with pytest.raises(WrongTensorsError, match=r"conv_in\.weight is \(64, 4, 3, 3\) float32, and \(64, 3, 3, 3\) is needed"):
        load(network, weights, ())


def test_integer_weights_are_rejected(network, weights):
    weights["conv_in.weight"] = weights["conv_in.weight"].to(torch.int8)
    with pytest.raises(WrongTensorsError, match="int8"):
        load(network, weights, ())


def test_half_precision_is_converted_to_float32(network, weights):
    load(network, {name: value.half() for name, value in weights.items()}, ())
    assert {value.dtype for value in network.parameters()} == {torch.float32}


def test_unused_tensors_are_accepted_by_name_only(network, weights):
    weights["side2.weight"] = torch.zeros(1)
    load(network, weights, ("side2.",))
    with pytest.raises(WrongTensorsError, match=r"with side2\.weight"):
        load(network, weights, ())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.weight", "b"], ["a.weight", "b"]),
        (["module.a.weight", "module.b"], ["a.weight", "b"]),
        (["module._orig_mod.net.a.weight", "module._orig_mod.net.b"], ["a.weight", "b"]),
        (["model.a", "model.c"], ["model.a", "model.c"]),  # the name in the network
        (["module.x", "module.y"], ["x", "y"]),  # of another network
        (["module.a.weight", "b"], ["module.a.weight", "b"]),  # b is in the network
        (["module.x", "y"], ["module.x", "y"]),
        ([], []),
    ],
)
def test_prefixes_of_wrappers_are_removed(names, expected):
    assert list(unwrapped(dict.fromkeys(names), {"a.weight", "b", "model.c"})) == expected


def test_deformable_convolution_without_offsets_is_a_convolution():
    x, weight = torch.randn(2, 5, 9, 8), torch.randn(4, 5, 3, 3)
    ours = deform_conv2d(x, torch.zeros(2, 18, 9, 8), torch.ones(2, 9, 9, 8), weight)
    assert torch.allclose(ours, torch.nn.functional.conv2d(x, weight, padding=1), atol=1e-4)


def test_deformable_convolution_applies_offset_and_modulation():
    x, weight = torch.randn(1, 2, 6, 7), torch.eye(2)[:, :, None, None]
    offset = torch.tensor([1.0, -2.0])[:, None, None].expand(1, 2, 6, 7)  # one row down, two columns left
    moved = deform_conv2d(x, offset, torch.full((1, 1, 6, 7), 2.0), weight)
    assert torch.allclose(moved[..., :-1, 2:], 2 * x[..., 1:, :-2], atol=1e-5)
    assert moved[..., -1, :].abs().max() < 1e-5 and moved[..., :2].abs().max() < 1e-5


def test_batches_are_independent_and_the_lite_network_runs():
    network = BiRefNet(SWIN_T, "colors").eval()
    fold_batch_norms(network)
    images = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        both = network(images)
        assert both.shape == (2, 1, 64, 96)
        assert torch.allclose(both[1:], network(images[1:]), atol=1e-4)


def test_channels_of_both_patch_orders():
    image = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    columns, colors = (image_patches(image, 2, 2, order) for order in ("columns", "colors"))
    assert columns.shape == colors.shape == (2, 18, 2, 2)
    color, row, column = 2, 1, 2
    patch = image[:, color, 2:4, 4:6]
    assert torch.equal(columns[:, (column * 2 + row) * 3 + color], patch)
    assert torch.equal(colors[:, (color * 2 + row) * 3 + column], patch)


def test_shifted_window_mask_separates_opposite_ends():
    mask = shifted_window_mask(14, 14, 7)
    assert mask.shape == (4, 49, 49)
    assert (mask[0] == 0).all() and (mask[3] != 0).any()
