"""Colours as a second opinion: they open gaps and find thin parts in front of a plain backdrop, and keep still elsewhere."""

import numpy as np
import pytest

from rmbg import evidence
from rmbg.matte import resize
from tests.pictures import iou, scene


def grate(height: int = 240, width: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """(photo, alpha): dark bars and a frame in front of a graded backdrop."""
    y, x = np.mgrid[:height, :width]
    frame = (abs(y - height / 2) < 0.35 * height) & (abs(x - width / 2) < 0.35 * width)
    inner = (abs(y - height / 2) < 0.29 * height) & (abs(x - width / 2) < 0.29 * width)
    alpha = (frame & ~inner) | (frame & (x % 24 < 7))
    backdrop = np.stack([150 + 40 * y / height, 160 + 0 * y, 140 + 30 * x / width], axis=-1)
    noise = np.random.default_rng(1).normal(0, 2, (height, width, 3))
    photo = np.where(alpha[..., None], (110.0, 60.0, 30.0), backdrop) + noise
    return np.clip(photo, 0, 255).astype(np.uint8), alpha.astype(np.float32)


def logits(matte: np.ndarray, side: int = 64, strength: float = 3.0) -> np.ndarray:
    """What a small network that sees `matte` only roughly would say."""
    return ((resize(matte, side, side) - 0.5) * 2 * strength).astype(np.float32)


def test_gaps_that_the_network_has_filled_are_opened():
    photo, alpha = grate()
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    filled = np.zeros_like(alpha)
    filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = 1
    assert iou(filled, alpha) < 0.65
    assert iou(resize(evidence.weigh(logits(filled), photo), *alpha.shape), alpha) > 0.9


def test_what_is_right_stays_right():
    photo, alpha, _, _ = scene(soft=1.0)
    assert iou(resize(evidence.weigh(logits(alpha), photo), *alpha.shape), alpha) > 0.97


def test_light_of_the_backdrops_colour_is_no_gap():
    """A head with a highlight that fades into the wall's own colour: colours alone would cut a hole into the forehead."""
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(y - 120, x - 160)
    alpha = (distance < 95).astype(np.float32)
    wall = np.full((240, 320, 3), 235.0)
    head = 235 - np.clip((distance - 20) * 2.2, 0, 130)[..., None] * np.array([0.6, 0.9, 1.0])
    photo = np.where(alpha[..., None] > 0, head, wall) + np.random.default_rng(2).normal(0, 1.5, (240, 320, 3))
    photo = np.clip(photo, 0, 255).astype(np.uint8)
    sure = logits(alpha, strength=6.0)
    assert evidence.unrest(evidence.small_lab(photo), alpha) < evidence.PLAIN
    joined = resize(evidence.weigh(sure, photo), *alpha.shape)
    assert joined[distance < 80].min() > 0.7
    assert iou(joined, alpha) > 0.97


def test_a_plates_white_bottom_is_no_gap_if_the_network_is_sure():
    """Only shape tells it from the hole of a ring: the same photo, and a network that doubts or does not."""
    y, x = np.mgrid[:240, :320]
    distance = np.hypot(y - 120, x - 160)
    plate = (distance < 100).astype(np.float32)
    rim = plate * (distance > 70)
    photo = np.where(rim[..., None] > 0, (30.0, 40.0, 120.0), 220.0)
    photo = np.clip(photo + np.random.default_rng(4).normal(0, 1.5, photo.shape), 0, 255).astype(np.uint8)
    for strength, truth in ((6.0, plate), (3.0, rim)):
        assert iou(resize(evidence.weigh(logits(plate, strength=strength), photo), *plate.shape), truth) > 0.97


def test_dark_joints_of_a_white_wall_are_not_the_subject():
    """A dark coat in front of white bricks: the joints have the coat's colours, and the network is sure that they are wall."""
    alpha = np.zeros((240, 320), np.float32)
    alpha[60:, 100:220] = 1
    photo = np.full((240, 320, 3), 225.0)
    photo[30::40] = photo[31::40] = 140
    photo[alpha > 0] = 70 + 90 * np.random.default_rng(5).random((int(alpha.sum()), 1))
    photo = photo.astype(np.uint8)
    assert evidence.unrest(evidence.small_lab(photo), alpha) < evidence.PLAIN
    joined = resize(evidence.weigh(logits(alpha, strength=7.0), photo), *alpha.shape)
    assert joined[:, :90].max() < 0.1
    assert iou(joined, alpha) > 0.97


def test_colours_that_both_sides_have_say_nothing():
    """A white sofa in a white room: what the network doubts of it must not be lost to the wall."""
    alpha = np.zeros((240, 320), np.float32)
    alpha[70:200, 60:260] = 1
    photo = np.where(alpha[..., None] > 0, 229.0, 235.0) * np.ones(3)
    photo[100:140, 100:125] = photo[100:140, 190:215] = (110, 140, 40)  # cushions
    photo += np.random.default_rng(3).normal(0, 1.5, photo.shape)
    seen = alpha.copy()
    seen[70:120, 140:175] = 0.56  # between the cushions the network is not sure
    joined = resize(evidence.weigh(logits(seen, strength=7.0), np.clip(photo, 0, 255).astype(np.uint8)), *alpha.shape)
    assert joined[78:118, 145:170].min() > 0.6
    assert iou(joined, alpha) > 0.97


def test_a_busy_background_changes_little():
    """Noise in all colours on both sides: the network's opinion stands."""
    rng = np.random.default_rng(5)
    photo = rng.integers(0, 256, (240, 320, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    alpha = scene(480, 640, soft=1.0)[1]
    own = resize(evidence.sigmoid(logits(alpha)), *alpha.shape)
    assert iou(resize(evidence.weigh(logits(alpha), photo), *alpha.shape), own) > 0.95


def test_unrest_tells_plain_from_busy():
    photo, alpha = grate()
    lab = evidence.small_lab(photo)
    assert evidence.unrest(lab, resize(alpha, *lab.shape[:2])) < evidence.PLAIN
    busy = np.random.default_rng(5).integers(0, 256, (60, 80, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    assert evidence.unrest(evidence.small_lab(busy), np.zeros((240, 320), np.float32)) > 3 * evidence.PLAIN


@pytest.mark.parametrize("level", [-8.0, 0.0, 8.0])
@pytest.mark.parametrize("size", [(8, 8), (9, 200), (300, 20)])
def test_extremes_give_numbers(level, size):
    photo = np.full((*size, 3), 128, np.uint8)
    matte = evidence.weigh(np.full((64, 64), level, np.float32), photo)
    assert np.isfinite(matte).all() and matte.min() >= 0 and matte.max() <= 1


def test_lightness_runs_from_0_to_100():
    assert evidence.small_lab(np.zeros((20, 20, 3), np.uint8))[..., 0].max() < 0.01
    white = evidence.small_lab(np.full((20, 20, 3), 255, np.uint8))
    assert white[..., 0] == pytest.approx(100, abs=0.1) and abs(white[..., 1:]).max() < 0.2
