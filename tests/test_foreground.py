"""Decontamination, in numbers: composites from a known foreground and alpha."""

import numpy as np
import pytest

from rmbg.compose import blend
from rmbg.foreground import estimate_foreground
from tests.pictures import scene


def edge_error(colours: np.ndarray, alpha: np.ndarray, foreground: np.ndarray, behind: tuple[int, int, int]) -> float:
    """RMSE inside the soft edge, as a share of full scale, of the composite on `behind` against the true one."""
    wanted = blend(foreground, alpha, np.array(behind, np.uint8)).astype(float)
    got = blend(colours, alpha, np.array(behind, np.uint8)).astype(float)
    soft = (alpha > 0) & (alpha < 1)
    return float(np.sqrt(((wanted - got)[soft] ** 2).mean()) / 255)


@pytest.mark.parametrize("behind", [(255, 255, 255), (0, 0, 0), (255, 0, 255)])
def test_no_halo_and_no_rim(behind):
    """At most a fifth of the error that the photo's own colours make, and below 1 % of full scale, on any background."""
    photo, alpha, foreground, _ = scene()
    error = edge_error(estimate_foreground(photo, alpha), alpha, foreground, behind)
    assert error < 0.01
    assert error < 0.2 * edge_error(photo, alpha, foreground, behind)


@pytest.mark.slow
def test_large_photos_are_as_clean():
    """Four megapixels go through the smaller copy and back."""
    photo, alpha, foreground, _ = scene(1700, 2400, soft=12)
    assert edge_error(estimate_foreground(photo, alpha), alpha, foreground, (255, 255, 255)) < 0.012


def test_opaque_pixels_are_the_photos_own_and_removed_ones_are_gone():
    photo, alpha, _, _ = scene()
    colours = estimate_foreground(photo, alpha)
    np.testing.assert_array_equal(colours[alpha == 1], photo[alpha == 1])
    assert colours[alpha == 0].max() == 0


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_hard_mattes_need_no_estimate(level):
    photo = scene()[0]
    colours = estimate_foreground(photo, np.full(photo.shape[:2], level, np.float32))
    np.testing.assert_array_equal(colours, photo * np.uint8(level))


def test_tiny_pictures():
    photo, alpha, _, _ = scene(8, 9, soft=1)
    assert estimate_foreground(photo, alpha).shape == (8, 9, 3)
