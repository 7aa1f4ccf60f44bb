"""rmbg.matting.matte: resizing, tiles, bounding box, conversion to bytes."""

import numpy as np
import pytest

from rmbg.matting import matte
from tests.pictures import disc


def test_resize_keeps_range_and_mean():
    small = matte.resize(disc(), 16, 24)
    assert small.shape == (16, 24) and small.dtype == np.float32
    assert small.min() >= 0 and small.max() <= 1
    assert small.mean() == pytest.approx(disc().mean(), abs=0.01)


@pytest.mark.parametrize("size", [(64, 48), (20, 100), (7, 5)])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.25, 1.0])
def test_resample_keeps_constants(size, level):
    resampled = matte.resample(np.full((32, 24), level, np.float32), *size)
    assert resampled.shape == size and np.abs(resampled - level).max() < 1e-6


def test_tiles_cover_each_pixel_once():
    covered = np.zeros((1030, 517), int)
    for rows, columns in matte.tiles(1030, 517):
        covered[rows, columns] += 1
    assert (covered == 1).all()


def test_bounding_box_with_margin_and_of_an_empty_matte():
    box = np.zeros((100, 200), np.float32)
    box[20:60, 50:130] = 1
    assert matte.bounding_box(box) == (slice(20, 60), slice(50, 130))
    assert matte.bounding_box(box, margin=0.1) == (slice(12, 68), slice(42, 138))
    assert matte.bounding_box(box, margin=2) == (slice(0, 100), slice(0, 200))
    assert matte.bounding_box(box * 0) == (slice(0, 100), slice(0, 200))


def test_to_bytes_rounds_to_the_nearest_level():
    levels = np.arange(256, dtype=np.float32)[None] / 255
    np.testing.assert_array_equal(matte.to_bytes(levels)[0], np.arange(256))


def test_sixteen_bits_keep_a_matte_and_round_halves_down():
    values = np.random.default_rng(0).random((200, 33)).astype(np.float32)
    levels = matte.to_sixteen_bits(values)
    assert levels.dtype == np.uint16 and np.abs(matte.from_sixteen_bits(levels) - values).max() <= 0.5 / 65535 + 1e-6
    zero, half, one = matte.from_sixteen_bits(matte.to_sixteen_bits(np.array([[0.0, 0.5, 1.0]], np.float32)))[0]
    assert zero == 0 and half <= 0.5 and one == 1
