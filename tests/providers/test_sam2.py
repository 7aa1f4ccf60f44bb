"""SAM 2: foreground selection on synthetic masks, and the provider with a small network of random weights."""

import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rmbg.errors import CancelledError, ModelError, NoSubjectError, OptionError
from rmbg.images.photo import Photo
from rmbg.inference import torch_runner as engine
from rmbg.inference.torch_runner import Masks
from rmbg.providers.base import RequestContext
from rmbg.providers.sam2 import best_mask, mask_at, point_grid, select_foreground
from rmbg.remove import remove_background
from rmbg.settings import Settings

SIDE = 64


def box_masks(*boxes, quality=0.95):
    """Return `Masks` of boxes (top, bottom, left, right), one per prompt."""
    logits = np.full((len(boxes), 1, SIDE, SIDE), -10, np.float32)
    for mask, (top, bottom, left, right) in zip(logits, boxes, strict=True):
        mask[0, top:bottom, left:right] = 10
    return Masks(logits, np.full((len(boxes), 1), quality, np.float32))


def test_masks_on_the_border_are_not_foreground():
    wall, subject = (0, SIDE, 0, SIDE), (20, 44, 20, 44)
    floor = (40, SIDE, 0, SIDE)
    result = select_foreground(box_masks(wall, subject, floor)) > 0
    assert result.sum() == 24 * 24 and result[30, 30] and not result[0, 0]


def test_overlapping_masks_are_merged_and_small_ones_dropped():
    body, hat, speck = (24, 50, 20, 44), (14, 30, 24, 40), (2, 5, 2, 5)
    result = select_foreground(box_masks(body, hat, speck)) > 0
    assert result[40, 30] and result[16, 30] and not result[3, 3]


@pytest.mark.parametrize("masks", [box_masks((0, SIDE, 0, SIDE)), box_masks((20, 40, 20, 40), quality=0.3)])
def test_no_subject_is_an_error(masks):
    with pytest.raises(NoSubjectError, match="Give a point or a box"):
        select_foreground(masks)


def test_best_mask_has_the_highest_predicted_iou():
    masks = Masks(np.arange(3.0)[None, :, None, None] * np.ones((1, 3, 4, 4)), np.array([[0.2, 0.9, 0.5]]))
    assert (best_mask(masks) == 1).all()


def test_point_grid_holds_cell_centers():
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


@pytest.fixture(scope="module")
def small():
    """Configuration of SAM 2 with a tiny image encoder."""
    from transformers import Sam2Config

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
    }
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8]}
    return Sam2Config(vision_config=vision)


@pytest.fixture
def settings(small, tmp_path, monkeypatch):
    from transformers import Sam2Model

    monkeypatch.setattr(engine, "sam2_config", lambda: small)
    torch.manual_seed(0)
    tensors = {name: value.contiguous().clone() for name, value in Sam2Model(small).state_dict().items()}
    tensors["memory_encoder.weight"] = torch.zeros(1)  # the published file also holds the video modules
    save_file(tensors, tmp_path / "sam2.safetensors")
    return Settings.from_environ({"RMBG_WEIGHTS": str(tmp_path), "RMBG_DATA": str(tmp_path), "RMBG_DEVICE": "cpu"})


@pytest.fixture
def photo():
    return Photo(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


@pytest.mark.parametrize("options", [{"point": "0.5, 0.5"}, {"box": "0.2,0.2,0.8,0.9"}])
def test_provider_with_a_prompt(settings, photo, options):
    cutout = remove_background(photo, "sam2", options, settings=settings)
    assert cutout.matte.shape == (40, 60) and (cutout.engine, cutout.device) == ("torch", "cpu")


def test_mask_of_the_object_at_a_point(settings, photo):
    matte = mask_at(photo, (0.5, 0.25), RequestContext(settings))
    assert matte.shape == (40, 60) and matte.min() >= 0 and matte.max() <= 1
    provided = remove_background(photo, "sam2", {"point": "0.5,0.25"}, settings=settings).matte
    np.testing.assert_allclose(matte, provided, atol=1e-6)
    with pytest.raises(CancelledError):
        mask_at(photo, (0.5, 0.25), RequestContext(settings, cancelled=lambda: True))


def test_provider_with_a_grid(settings, photo, monkeypatch):
    monkeypatch.setattr(sys.modules["rmbg.providers.sam2"], "select_foreground", best_mask)  # random weights yield no candidate
    monkeypatch.setattr(engine, "POINTS_PER_BATCH", 3)
    assert remove_background(photo, "sam2", {"grid": 2}, settings=settings).matte.shape == (40, 60)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"point": "0.5"}, "point is '0.5'; it must be 2 numbers from 0 to 1"),
        ({"point": "0.5,nan"}, "2 numbers"),
        ({"box": "0,0,2,1"}, "4 numbers"),
        ({"box": "0.5,0,0.5,1"}, "left must be less than right"),
    ],
)
def test_invalid_prompt_is_rejected(settings, photo, options, sentence):
    with pytest.raises(OptionError, match=sentence):
        remove_background(photo, "sam2", options, settings=settings)


def test_weights_of_another_network_are_rejected(settings, photo, tmp_path):
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / "sam2.safetensors")
    with pytest.raises(ModelError, match=r"does not fit sam2\. These are the weights of another network"):
        remove_background(photo, "sam2", {"point": "0.5,0.5"}, settings=settings)


def test_published_configuration_has_the_parameters_of_sam2_small():
    from transformers import Sam2Model

    with torch.device("meta"):
        network = Sam2Model(engine.sam2_config())
    assert 38e6 < sum(value.numel() for value in network.parameters()) < 41e6
