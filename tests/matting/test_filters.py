"""rmbg.matting.matte: the same results as SciPy."""

import numpy as np
import pytest
from scipy import ndimage

from rmbg.matting import matte

PLANE = np.random.default_rng(0).random((37, 53), np.float32)
SPECKLES = ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((61, 83)), 1.2) > 0


@pytest.mark.parametrize("radius", [1, 2, 3, 4, 7, 8])
def test_windows(radius):
    side = 2 * radius + 1
    mean = matte.box_mean(np.pad(PLANE, radius, mode="edge"), radius)
    np.testing.assert_allclose(mean, ndimage.uniform_filter(PLANE, side, mode="nearest"), atol=1e-6)
    assert np.array_equal(matte.dilate(SPECKLES, radius), ndimage.maximum_filter(SPECKLES, side))


def test_box_mean_of_a_stack():
    stack = np.stack([PLANE, 1 - PLANE])
    assert np.array_equal(matte.box_mean(stack, 2)[1], matte.box_mean(1 - PLANE, 2))


@pytest.mark.parametrize("sigma", [0.7, 1.0])
def test_gaussian(sigma):
    np.testing.assert_allclose(matte.gaussian(PLANE, sigma), ndimage.gaussian_filter(PLANE, sigma), atol=1e-6)
    expected = ndimage.gaussian_gradient_magnitude(PLANE, sigma)
    np.testing.assert_allclose(matte.gradient_magnitude(PLANE, sigma), expected, atol=1e-5)


def test_erosion():
    assert np.array_equal(matte.erode_cross(SPECKLES, 2), ndimage.binary_erosion(SPECKLES, iterations=2))


@pytest.mark.parametrize(
    "mask", [SPECKLES, ~SPECKLES, SPECKLES[:1], np.ones((4, 5), bool), np.zeros((4, 5), bool), np.eye(5) > 0]
)
def test_labels(mask):
    labels, count = matte.label(mask)
    expected, expected_count = ndimage.label(mask)
    assert count == expected_count
    assert np.array_equal(labels > 0, mask)
    # The numbers are a permutation of SciPy's.
    assert len(np.unique(np.stack([labels[mask], expected[mask]]), axis=1).T) == count
