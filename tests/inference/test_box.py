"""rmbg.inference.box: crop of a photo to a box with a margin, and its inverse."""

import numpy as np
import pytest

from rmbg.inference import box

RGB = np.random.default_rng(0).integers(1, 256, (50, 70, 3), np.uint8)


# As `BoxSegmenter.add_margin` of finegrain-ai/refiners 720a91a computes it.
@pytest.mark.parametrize(
    ("given", "expected"),
    [((10, 5, 60, 45), (8, 3, 62, 47)), ((0, 0, 70, 20), (-3, -1, 73, 21)), ((3, 7, 22, 26), (3, 7, 22, 26))],
)
def test_margin_is_five_percent_rounded_down(given, expected):
    assert box.add_margin(given) == expected


def test_crop_inside_the_photo():
    assert np.array_equal(box.crop(RGB, (10, 5, 60, 45)), RGB[5:45, 10:60])


def test_crop_is_black_outside_the_photo():
    crop = box.crop(RGB, (-3, -2, 40, 53))
    assert crop.shape == (55, 43, 3)
    assert np.array_equal(crop[2:52, 3:], RGB[:, :40])
    assert not crop[:2].any() and not crop[52:].any() and not crop[:, :3].any()


@pytest.mark.parametrize("given", [(10, 5, 60, 45), (-3, -2, 40, 53), (-3, -2, 73, 52)])
def test_pasted_alpha_is_that_of_the_crop_and_zero_elsewhere(given):
    alpha = box.paste(box.crop(RGB, given)[..., 0], given, 50, 70)
    left, top, right, bottom = (max(value, 0) for value in given)
    assert np.array_equal(alpha[top:bottom, left:right], RGB[top:bottom, left:right, 0])
    assert np.count_nonzero(alpha) == alpha[top:bottom, left:right].size
