"""SAM and SAM 2: foreground selection on synthetic masks, and the providers with small networks of random weights."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from rmbg.errors import CancelledError, ModelError, NoSubjectError, OptionError
from rmbg.images.photo import Photo
from rmbg.inference import preprocess
from rmbg.inference import torch_runner as engine
from rmbg.inference.torch_runner import Masks
from rmbg.providers import PROVIDERS
from rmbg.providers.base import RequestContext
from rmbg.providers.sam import best_mask, mask_at, point_grid, select_foreground, without_padding
from rmbg.remove import remove_background
from rmbg.runtime.telemetry import Timer
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


@pytest.fixture(params=["sam", "sam2"])
def name(request):
    return request.param


@pytest.fixture
def small(name):
    """Network with a tiny image encoder."""
    from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

    torch.manual_seed(0)
    if name == "sam":
        encoder = {"num_hidden_layers": 2, "global_attn_indexes": [1], "num_pos_feats": 8, "initializer_range": 0.02}
        heads = {"hidden_size": 16, "num_attention_heads": 2}
        return SamModel(
            SamConfig(
                vision_config={**heads, **encoder, "output_channels": 16},
                prompt_encoder_config={"hidden_size": 16},
                mask_decoder_config={**heads, "mlp_dim": 32, "iou_head_hidden_dim": 16},
                initializer_range=0.2,
            )
        ).eval()
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
    }
    vision = {"backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8]}
    return Sam2Model(Sam2Config(vision_config=vision)).eval()


@pytest.fixture
def settings(name, small, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "sam_config", lambda architecture: small.config)
    tensors = {key: value.contiguous().clone() for key, value in small.state_dict().items()}
    tensors["memory_encoder.weight"] = torch.zeros(1)  # the published file of SAM 2 also holds the video modules
    if name == "sam":
        tensors.pop("prompt_encoder.shared_embedding.positional_embedding")  # a copy of another one
    save_file(tensors, tmp_path / f"{name}.safetensors")
    return Settings.from_environ({"RMBG_WEIGHTS": str(tmp_path), "RMBG_DATA": str(tmp_path), "RMBG_DEVICE": "cpu"})


@pytest.fixture
def photo():
    return Photo(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))


def test_provider_with_a_prompt(name, settings, photo):
    """Points of SAM 2 and boxes of SAM are in other tests."""
    options = {"point": "0.5, 0.5"} if name == "sam" else {"box": "0.2,0.2,0.8,0.9"}
    cutout = remove_background(photo, name, options, settings=settings)
    assert cutout.matte.shape == (40, 60) and (cutout.engine, cutout.device) == ("torch", "cpu")


@pytest.mark.parametrize("name", ["sam2"], indirect=True)
def test_mask_of_the_object_at_a_point(settings, photo):
    matte = mask_at(photo, (0.5, 0.25), RequestContext(settings))
    assert matte.shape == (40, 60) and matte.min() >= 0 and matte.max() <= 1
    provided = remove_background(photo, "sam2", {"point": "0.5,0.25"}, settings=settings).matte
    np.testing.assert_allclose(matte, provided, atol=1e-6)
    with pytest.raises(CancelledError):
        mask_at(photo, (0.5, 0.25), RequestContext(settings, cancelled=lambda: True))


def test_provider_with_a_grid(name, settings, photo, monkeypatch):
    monkeypatch.setattr(sys.modules["rmbg.providers.sam"], "select_foreground", best_mask)  # random weights yield no candidate
    monkeypatch.setattr(engine, "POINTS_PER_BATCH", 3)
    assert remove_background(photo, name, {"grid": 2}, settings=settings).matte.shape == (40, 60)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"point": "0.5"}, "point is '0.5'; it must be 2 numbers from 0 to 1"),
        ({"point": "0.5,nan"}, "2 numbers"),
        ({"box": "0,0,2,1"}, "4 numbers"),
        ({"box": "0.5,0,0.5,1"}, "left must be less than right"),
    ],
)
def test_invalid_prompt_is_rejected(name, settings, photo, options, sentence):
    with pytest.raises(OptionError, match=sentence):
        remove_background(photo, name, options, settings=settings)


def test_weights_of_another_network_are_rejected(name, settings, photo, tmp_path):
    save_file({"conv_in.weight": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match=rf"does not fit {name}\. These are the weights of another network"):
        remove_background(photo, name, {"point": "0.5,0.5"}, settings=settings)


def test_published_configurations_have_the_parameters_of_sam_base_and_sam2_small():
    from transformers import Sam2Model, SamModel

    with torch.device("meta"):
        sam, sam2 = SamModel(engine.sam_config("sam")), Sam2Model(engine.sam_config("sam2"))
    assert sum(value.numel() for value in sam.parameters()) == 93_735_728
    assert 38e6 < sum(value.numel() for value in sam2.parameters()) < 41e6


@pytest.mark.parametrize("name", ["sam"], indirect=True)
@pytest.mark.parametrize(("height", "width", "box"), [(600, 800, None), (801, 405, (0.2, 0.25, 0.75, 0.9))])
def test_sam_matches_the_pipeline_of_transformers(settings, small, height, width, box):
    from transformers import SamImageProcessorPil, SamProcessor

    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    prompt = [fraction * side for fraction, side in zip(box or (0.5, 0.25), (width, height) * 2, strict=False)]
    pixels = {"input_boxes" if box else "input_points": [[prompt]]}
    processor = SamProcessor(SamImageProcessorPil())
    inputs = processor(rgb, **pixels, return_tensors="pt")
    sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    with torch.inference_mode():
        expected = small(**{key: value.float() for key, value in inputs.items()}, multimask_output=box is None)
    sam = PROVIDERS["sam"]
    np.testing.assert_allclose(preprocess.prepare(sam.model, rgb), inputs["pixel_values"], atol=1e-6)
    points, box = np.array([[0.5, 0.25]], np.float32), box and np.array(box, np.float32)
    masks, _ = sam.predict(rgb, points, box, RequestContext(settings), Timer())
    np.testing.assert_allclose(masks.quality, expected.iou_scores[0], atol=1e-5)
    published = processor.post_process_masks(expected.pred_masks, *sizes)[0].numpy()
    ours = [preprocess.resize_plain(mask, height, width) > 0 for mask in np.concatenate(masks.logits)]
    assert (published == [ours]).mean() > 0.9, "random masks alternate from pixel to pixel"


@pytest.mark.parametrize(("height", "width"), [(801, 405), (405, 801)])
def test_padding_of_smooth_masks_is_removed_as_in_transformers(height, width):
    """The photo fills 129.5 of the 256 pixels of its shorter side."""
    from transformers import SamImageProcessorPil

    coarse = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    logits = np.array(Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC))[None, None]
    filled = (np.array([width, height]) * 1024 / 801).round().astype(int)
    cut = without_padding(logits, *filled / 1024)[0, 0]
    assert sorted(cut.shape) == [130, 256]
    (expected,) = SamImageProcessorPil().post_process_masks(
        [torch.from_numpy(logits)], [(height, width)], [filled[::-1].tolist()], binarize=False
    )
    assert np.abs(preprocess.resize_plain(cut, height, width) - expected[0, 0].numpy()).mean() < 1e-3
