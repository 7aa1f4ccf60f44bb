"""rmbg.inference.preprocess against torch and the published pipelines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from rmbg.inference import preprocess
from rmbg.inference.catalog import MODELS, build
from rmbg.networks.load import fold_batch_norms, load
from tests.networks.rule import rule_weights
from tests.networks.test_golden import WHOLE, needs_whole


@pytest.mark.parametrize("size", [(1024, 1024), (40, 90), (7, 2000)])
def test_plain_resizing_matches_torch(size):
    picture = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(tensor, size=size, mode="bilinear")[0].permute(1, 2, 0).numpy()
    assert np.abs(preprocess.resize_plain(picture, *size) - expected).max() < 0.01


def test_inputs_are_normalized():
    white = np.full((20, 30, 3), 255, np.uint8)
    assert np.allclose(preprocess.prepare(MODELS["rmbg-1.4"], white), 0.5)
    assert np.allclose(
        preprocess.prepare(MODELS["rmbg-2.0"], white)[0, :, 5, 5], [(1 - 0.485) / 0.229, 0.544 / 0.224, 0.594 / 0.225]
    )


def test_dark_photos_are_scaled_by_their_largest_value_for_u2net():
    """As in ``ToTensorLab`` of https://github.com/xuebinqin/U-2-Net/blob/master/data_loader.py."""
    dark = np.full((20, 30, 3), (30, 60, 120), np.uint8)
    expected = (np.array([0.25, 0.5, 1]) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    for name in ("u2net", "u2netp", "u2net-human-seg", "silueta"):
        assert np.allclose(preprocess.prepare(MODELS[name], dark)[0, :, 5, 5], expected, atol=1e-5)
    assert np.isfinite(preprocess.prepare(MODELS["u2net"], np.zeros((20, 30, 3), np.uint8))).all()
    assert np.allclose(preprocess.prepare(MODELS["u2net-cloth-seg"], dark)[0, 2, 5, 5], 120 / 255 * 2 - 1)


def test_minmax_normalization_of_masks():
    mask = np.full((1024, 1024), 0.25, np.float32)
    mask[:, 512:] = 0.75
    for name, low, high in (("rmbg-1.4", 0, 255), ("rmbg-2.0", 63, 191)):
        result = preprocess.alpha(MODELS[name], mask, 100, 60)
        assert result.dtype == np.uint8 and result.shape == (100, 60)
        assert abs(int(result[0, 0]) - low) <= 1 and abs(int(result[0, -1]) - high) <= 1


@pytest.mark.parametrize(("height", "width"), [(300, 200), (200, 300), (1, 5000)])
def test_letterboxed_photos_keep_their_ratio(height, width):
    """The photo fills the input along its longer side, zeros are beside it, and alpha is that of the photo's part."""
    model = replace(MODELS["rmbg-1.4"], letterbox="center")
    image = preprocess.prepare(model, np.full((height, width, 3), 255, np.uint8))[0, 0]
    filled = np.argwhere(image > 0)
    (top, left), (bottom, right) = filled.min(0), filled.max(0) + 1
    assert max(bottom - top, right - left) == 1024 and len(filled) == (bottom - top) * (right - left)
    assert (bottom - top, right - left) == (
        max(1, 1024 * height // max(height, width)),
        max(1, 1024 * width // max(height, width)),
    )
    assert abs(top - (1024 - bottom)) <= 1 and abs(left - (1024 - right)) <= 1
    mask = np.zeros((1024, 1024), np.float32)
    mask[top:bottom, left:right] = np.linspace(0, 1, right - left)
    alpha = preprocess.alpha(model, mask, height, width)
    assert alpha.shape == (height, width) and alpha[:, 0].max() <= 2 and alpha[:, -1].min() >= 253


def test_lanczos_resizing_is_that_of_pillow():
    photo = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    expected = np.asarray(Image.fromarray(photo).resize((1024, 1024), Image.Resampling.LANCZOS)) / 255
    found = preprocess.prepare(replace(MODELS["rmbg-2.0"], resampling="lanczos", mean=(0.0,) * 3, std=(1.0,) * 3), photo)[0]
    np.testing.assert_allclose(found.transpose(1, 2, 0), expected, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_constant_masks_and_extreme_shapes(name):
    constant = np.full((1024, 1024), 0.5, np.float32)
    assert preprocess.alpha(MODELS[name], constant, 1, 1).shape == (1, 1)
    assert preprocess.alpha(MODELS[name], constant, 100, 20_000).shape == (100, 20_000)
    for shape in ((1, 1), (20_000, 100)):
        expected = (1, 3, *MODELS[name].input_shape(*shape))
        assert preprocess.prepare(MODELS[name], np.zeros((*shape, 3), np.uint8)).shape == expected


def test_input_and_alpha_of_rmbg_2_are_those_of_the_model_card():
    """Resize, ToTensor and Normalize of torchvision before the network, ToPILImage and Pillow's default filter after it."""
    photo = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    resized = torch.from_numpy(np.array(Image.fromarray(photo).resize((1024, 1024), Image.Resampling.BILINEAR)))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    published = ((resized.float().div(255) - mean) / std).permute(2, 0, 1).numpy()
    np.testing.assert_allclose(preprocess.prepare(MODELS["rmbg-2.0"], photo)[0], published, atol=1e-5)
    mask = torch.rand(1024, 1024, generator=torch.Generator().manual_seed(0))
    expected = np.asarray(Image.fromarray(mask.mul(255).byte().numpy()).resize((200, 300)))
    np.testing.assert_array_equal(preprocess.alpha(MODELS["rmbg-2.0"], mask.numpy(), 300, 200), expected)


@needs_whole
@pytest.mark.slow
@pytest.mark.parametrize("name", ["rmbg-1.4", pytest.param("rmbg-2.0", marks=pytest.mark.long)])
def test_the_pipeline_matches_the_published_one(name):
    """The network of RMBG-2.0, which takes a minute, is compared at a smaller size in test_golden.py."""
    photo = np.asarray(Image.open(WHOLE / "image_seed2.png").convert("RGB"))
    network, unused = build(MODELS[name])
    load(network, rule_weights(network.state_dict(), 2), unused)
    fold_batch_norms(network)
    with torch.inference_mode():
        mask = network(torch.from_numpy(preprocess.prepare(MODELS[name], photo))).sigmoid()[0, 0].numpy()
    ours = preprocess.alpha(MODELS[name], mask, *photo.shape[:2])
    published = np.asarray(Image.open(WHOLE / f"{name}_seed2_alpha.png"))
    assert np.abs(ours.astype(int) - published).mean() < 0.01
