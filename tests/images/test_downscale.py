"""rmbg.images.pixels: the same pixels as Pillow, weights, windows."""

import numpy as np
import pytest
from PIL import Image

from rmbg.images.pixels import downscale, downscale_weighted, reduce, reduce_to

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1001, 777, 3), (50, 60, 3), (1500, 1100), (9, 2001)])
@pytest.mark.parametrize("size", [(120, 160), (320, 320), (1, 1)])
@pytest.mark.parametrize("gap", [1.0, 2.0])
def test_pixels_are_those_of_pillow(shape, size, gap):
    pixels = RANDOM.integers(0, 256, shape, np.uint8)
    for array in [pixels] if pixels.ndim == 3 else [pixels, pixels.astype(np.float32) / np.float32(255)]:
        for filter_ in (Image.Resampling.BOX, Image.Resampling.BILINEAR):
            expected = np.asarray(Image.fromarray(array).resize(size, filter_, reducing_gap=gap))
            found = downscale(array, *size, filter_, reducing_gap=gap)
            assert found.dtype == array.dtype and np.array_equal(found, expected)


def test_pixels_outside_of_the_window_have_no_influence():
    pixels = RANDOM.integers(0, 256, (900, 1200, 3), np.uint8)
    box = (100.5, 50.25, 1000.5, 700.75)
    expected = np.asarray(Image.fromarray(pixels).crop((100, 50, 1001, 701)).resize((90, 65), Image.Resampling.BOX))
    found = downscale(pixels, 90, 65, box=box)
    assert np.abs(found.astype(int) - expected).mean() < 3  # half a pixel of ten
    outside = pixels.copy()
    outside[:50], outside[701:], outside[:, :100], outside[:, 1001:] = 0, 255, 0, 255
    assert np.array_equal(downscale(outside, 90, 65, box=box), found)


def test_colors_are_weighted_by_alpha():
    colors = np.zeros((400, 600, 3), np.uint8)
    colors[:, ::2] = (200, 100, 50)
    alpha = np.zeros((400, 600), np.float32)
    alpha[:, ::2] = 1
    found = downscale_weighted(colors, alpha, 60, 40)
    assert found.shape == (40, 60, 3) and (np.abs(found.astype(int) - (200, 100, 50)) <= 1).all()
    assert not downscale_weighted(colors, np.zeros_like(alpha), 60, 40).any()


def test_whole_factors():
    pixels = RANDOM.integers(0, 256, (1000, 601, 3), np.uint8)
    assert reduce_to(pixels, 1000) is pixels and reduce_to(pixels, 501) is pixels
    assert reduce_to(pixels, 500).shape == (500, 301, 3)
    assert np.array_equal(reduce(pixels, 3, 4), np.asarray(Image.fromarray(pixels).reduce((3, 4))))
