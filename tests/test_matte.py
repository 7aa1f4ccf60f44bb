"""Mattes: sizes, edges by a guide, cleaning, shifting, boxes."""

import numpy as np
import pytest

from rmbg import matte
from tests.pictures import iou, scene


def disc(side: int = 64, radius: float = 20.0) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.clip(radius - np.hypot(y, x) + 0.5, 0, 1).astype(np.float32)


def test_resize_keeps_range_and_mean():
    small = matte.resize(disc(), 16, 24)
    assert small.shape == (16, 24) and small.dtype == np.float32
    assert small.min() >= 0 and small.max() <= 1
    assert small.mean() == pytest.approx(disc().mean(), abs=0.01)


def test_upsampling_by_guide_finds_the_photos_edge():
    """From a matte of 40 pixels, the guided edge must be clearly nearer to the truth than plain bilinear."""
    photo, alpha, _, _ = scene(480, 640, soft=1.0)
    small = matte.resize(alpha, 30, 40)
    guided = matte.upsample_guided(small, photo, guide_side=640)
    plain = matte.resize(small, 480, 640)
    assert np.abs(guided - alpha).mean() < 0.5 * np.abs(plain - alpha).mean()
    assert iou(guided, alpha) > 0.99


@pytest.mark.parametrize("height, width", [(31, 700), (700, 31), (513, 511)])
def test_upsampling_works_at_any_size(height, width):
    photo, alpha, _, _ = scene(height, width, soft=1.0)
    result = matte.upsample_guided(matte.resize(alpha, 64, 64), photo)
    assert result.shape == (height, width) and result.dtype == np.float32
    assert result.min() >= 0 and result.max() <= 1


def test_upsampling_leaves_flat_mattes_flat():
    photo = scene()[0]
    for level in (0.0, 1.0):
        flat = matte.upsample_guided(np.full((20, 20), level, np.float32), photo)
        assert (flat == level).all()


def test_tiles_cover_everything_once():
    seen = np.zeros((1030, 517), int)
    for rows, columns in matte.tiles(1030, 517):
        seen[rows, columns] += 1
    assert (seen == 1).all()


def test_clean_removes_specks_and_holes_and_keeps_the_subject():
    dirty = disc(200, 60)
    dirty[3:6, 3:6] = 1
    dirty[99:101, 99:101] = 0
    cleaned = matte.clean(dirty)
    assert cleaned[:10, :10].max() == 0
    assert cleaned[99:101, 99:101].min() == 1
    np.testing.assert_allclose(cleaned, disc(200, 60), atol=1e-6)


def test_clean_keeps_real_holes_and_the_largest_island():
    ring = disc(200, 60) - disc(200, 30)
    np.testing.assert_array_equal(matte.clean(ring), ring)
    tiny = np.zeros((200, 200), np.float32)
    tiny[5, 5] = 1
    np.testing.assert_array_equal(matte.clean(tiny), tiny)


@pytest.mark.parametrize("pixels", [-3, -1.5, 0, 0.5, 2])
def test_shift_moves_the_edge_by_that_many_pixels(pixels):
    moved = matte.shift(disc(), pixels)
    assert np.sqrt(moved.sum() / np.pi) == pytest.approx(20 + pixels, abs=0.35)


def test_feather_and_invert():
    soft = matte.feather(disc(), 3)
    assert ((soft > 0.05) & (soft < 0.95)).mean() > 3 * ((disc() > 0.05) & (disc() < 0.95)).mean()
    np.testing.assert_allclose(matte.invert(disc()) + disc(), 1)


def test_subject_box():
    box = np.zeros((100, 200), np.float32)
    box[20:60, 50:130] = 1
    assert matte.subject_box(box) == (slice(20, 60), slice(50, 130))
    assert matte.subject_box(box, margin=0.1) == (slice(12, 68), slice(42, 138))
    assert matte.subject_box(box, margin=2) == (slice(0, 100), slice(0, 200))
    assert matte.subject_box(box * 0) == (slice(0, 100), slice(0, 200))


def test_to_bytes_rounds_to_the_nearest_level():
    levels = np.arange(256, dtype=np.float32)[None] / 255
    np.testing.assert_array_equal(matte.to_bytes(levels)[0], np.arange(256))
