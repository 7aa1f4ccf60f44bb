"""rmbg.matting.color_prior: gaps and thin parts in front of plain backgrounds, and no harm elsewhere."""

import numpy as np
import pytest

from rmbg.matting import color_prior
from rmbg.matting.matte import resize
from tests.pictures import iou, scene


def grate(height: int = 240, width: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """Render dark bars in a frame on a gradient: photo uint8 (height, width, 3) and alpha float32 (height, width)."""
    y, x = np.mgrid[:height, :width]
    frame = (abs(y - height / 2) < 0.35 * height) & (abs(x - width / 2) < 0.35 * width)
    inner = (abs(y - height / 2) < 0.29 * height) & (abs(x - width / 2) < 0.29 * width)
    alpha = (frame & ~inner) | (frame & (x % 24 < 7))
    background = np.stack([150 + 40 * y / height, 160 + 0 * y, 140 + 30 * x / width], axis=-1)
    noise = np.random.default_rng(1).normal(0, 2, (height, width, 3))
    photo = np.where(alpha[..., None], (110.0, 60.0, 30.0), background) + noise
    return np.clip(photo, 0, 255).astype(np.uint8), alpha.astype(np.float32)


def logits(matte: np.ndarray, side: int = 64, strength: float = 3.0) -> np.ndarray:
    """Logits of a low-resolution network for `matte`: float32 (side, side) in [-strength, strength]."""
    return ((resize(matte, side, side) - 0.5) * 2 * strength).astype(np.float32)


def corrected(network: np.ndarray, photo: np.ndarray) -> np.ndarray:
    """The corrected matte at the photo's size: float32 (H, W)."""
    return resize(color_prior.apply_color_prior(network, photo), *photo.shape[:2])


def test_gaps_filled_by_the_network_are_opened():
    photo, alpha = grate()
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    filled = np.zeros_like(alpha)
    filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
    assert iou(filled, alpha) < 0.65
    assert iou(corrected(logits(filled), photo), alpha) > 0.9


def test_a_correct_matte_is_kept():
    photo, alpha, _, _ = scene(soft=1.0)
    assert iou(corrected(logits(alpha), photo), alpha) > 0.97


def test_a_highlight_of_the_walls_color_is_not_removed():
    """A head with a highlight that fades into the color of the wall."""
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(y - 120, x - 160)
    alpha = (distance < 95).astype(np.float32)
    wall = np.full((240, 320, 3), 235.0)
    head = 235 - np.clip((distance - 20) * 2.2, 0, 130)[..., None] * np.array([0.6, 0.9, 1.0])
    photo = np.where(alpha[..., None] > 0, head, wall) + np.random.default_rng(2).normal(0, 1.5, (240, 320, 3))
    photo = np.clip(photo, 0, 255).astype(np.uint8)
    assert color_prior.background_variation(color_prior.small_lab(photo), alpha) < color_prior.PLAIN_VARIATION
    matte = corrected(logits(alpha, strength=6.0), photo)
    assert matte[distance < 80].min() > 0.7
    assert iou(matte, alpha) > 0.97


def test_confidence_decides_between_a_white_plate_and_a_ring():
    """The photo is the same; a confident network keeps the bottom of the plate, a doubtful one loses it."""
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(y - 120, x - 160)
    plate = (distance < 100).astype(np.float32)
    rim = plate * (distance > 70)
    photo = np.where(rim[..., None] > 0, (30.0, 40.0, 120.0), 220.0)
    photo = np.clip(photo + np.random.default_rng(4).normal(0, 1.5, photo.shape), 0, 255).astype(np.uint8)
    for strength, truth in ((6.0, plate), (3.0, rim)):
        assert iou(corrected(logits(plate, strength=strength), photo), truth) > 0.97


def test_a_white_shirt_at_the_border_is_not_a_gap():
    """The white part has the color of the wall, and a visible edge; the picture's border cuts it."""
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(y - 240, x - 160)
    person = (distance < 100).astype(np.float32)
    photo = np.where(((distance < 100) & (distance > 70))[..., None], (30.0, 40.0, 120.0), 220.0)
    photo = np.clip(photo + np.random.default_rng(4).normal(0, 1.5, photo.shape), 0, 255).astype(np.uint8)
    assert iou(corrected(logits(person), photo), person) > 0.97


def test_dark_joints_of_a_white_wall_stay_background():
    """The joints have the color of the dark coat in front of the wall, but the network rejects them with high confidence."""
    alpha = np.zeros((240, 320), np.float32)
    alpha[60:, 100:220] = 1
    photo = np.full((240, 320, 3), 225.0)
    photo[30::40] = photo[31::40] = 140
    photo[alpha > 0] = 70 + 90 * np.random.default_rng(5).random((int(alpha.sum()), 1))
    photo = photo.astype(np.uint8)
    assert color_prior.background_variation(color_prior.small_lab(photo), alpha) < color_prior.PLAIN_VARIATION
    matte = corrected(logits(alpha, strength=7.0), photo)
    assert matte[:, :90].max() < 0.1
    assert iou(matte, alpha) > 0.97


def test_the_color_model_is_discarded_if_both_sides_share_their_colors():
    """A white sofa in a white room, with an area of low confidence between the cushions."""
    alpha = np.zeros((240, 320), np.float32)
    alpha[70:200, 60:260] = 1
    photo = np.where(alpha[..., None] > 0, 229.0, 235.0) * np.ones(3)
    photo[100:140, 100:125] = photo[100:140, 190:215] = (110, 140, 40)  # cushions
    photo += np.random.default_rng(3).normal(0, 1.5, photo.shape)
    predicted = alpha.copy()
    predicted[70:120, 140:175] = 0.56
    matte = corrected(logits(predicted, strength=7.0), np.clip(photo, 0, 255).astype(np.uint8))
    assert matte[78:118, 145:170].min() > 0.6
    assert iou(matte, alpha) > 0.97


def test_a_busy_background_changes_little():
    """Noise in all colors on both sides carries no information about the subject."""
    rng = np.random.default_rng(5)
    photo = rng.integers(0, 256, (240, 320, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    alpha = scene(480, 640, soft=1.0)[1]
    uncorrected = resize(color_prior.sigmoid(logits(alpha)), *alpha.shape)
    assert iou(corrected(logits(alpha), photo), uncorrected) > 0.95


def test_background_variation_separates_plain_from_busy():
    photo, alpha = grate()
    lab = color_prior.small_lab(photo)
    assert color_prior.background_variation(lab, resize(alpha, *lab.shape[:2])) < color_prior.PLAIN_VARIATION
    busy = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    variation = color_prior.background_variation(color_prior.small_lab(busy), np.zeros((240, 320), np.float32))
    assert variation > 3 * color_prior.PLAIN_VARIATION


@pytest.mark.parametrize("level", [-8.0, 0.0, 8.0])
@pytest.mark.parametrize("size", [(8, 8), (9, 200), (300, 20)])
def test_uniform_photos_and_logits_give_finite_alpha(level, size):
    photo = np.full((*size, 3), 128, np.uint8)
    matte = color_prior.apply_color_prior(np.full((64, 64), level, np.float32), photo)
    assert np.isfinite(matte).all() and matte.min() >= 0 and matte.max() <= 1


def test_lightness_ranges_from_0_to_100():
    assert color_prior.small_lab(np.zeros((20, 20, 3), np.uint8))[..., 0].max() < 0.01
    white = color_prior.small_lab(np.full((20, 20, 3), 255, np.uint8))
    assert white[..., 0] == pytest.approx(100, abs=0.1) and abs(white[..., 1:]).max() < 0.2
