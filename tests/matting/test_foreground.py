"""rmbg.matting.foreground: errors of composites whose foreground and alpha are known."""

import numpy as np
import pytest

from rmbg.images.pixels import blend
from rmbg.matting.foreground import estimate_foreground
from tests.pictures import scene


def edge_error(colors: np.ndarray, alpha: np.ndarray, foreground: np.ndarray, background: tuple[int, int, int]) -> float:
    """RMSE of a composite inside the soft edge against the true composite, as a fraction of full scale."""
    expected = blend(foreground, alpha, np.array(background, np.uint8)).astype(float)
    composite = blend(colors, alpha, np.array(background, np.uint8)).astype(float)
    soft = (alpha > 0) & (alpha < 1)
    return float(np.sqrt(((expected - composite)[soft] ** 2).mean()) / 255)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (255, 0, 255)])
def test_no_color_fringe(background):
    """Error below 1 % of full scale, and at most a fifth of the error of the photo's own colors."""
    photo, alpha, foreground, _ = scene()
    error = edge_error(estimate_foreground(photo, alpha), alpha, foreground, background)
    assert error < 0.01
    assert error < 0.2 * edge_error(photo, alpha, foreground, background)


@pytest.mark.slow
def test_no_color_fringe_at_four_megapixels():
    """Above `WORKING_PIXELS`, where the colors come from a smaller copy."""
    photo, alpha, foreground, _ = scene(1700, 2400, soft=12)
    assert edge_error(estimate_foreground(photo, alpha), alpha, foreground, (255, 255, 255)) < 0.012


def test_opaque_pixels_are_unchanged_and_transparent_ones_black():
    photo, alpha, _, _ = scene()
    colors = estimate_foreground(photo, alpha)
    np.testing.assert_array_equal(colors[alpha == 1], photo[alpha == 1])
    assert colors[alpha == 0].max() == 0


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_hard_mattes_need_no_estimate(level):
    photo = scene()[0]
    colors = estimate_foreground(photo, np.full(photo.shape[:2], level, np.float32))
    np.testing.assert_array_equal(colors, photo * np.uint8(level))


def test_tiny_pictures():
    photo, alpha, _, _ = scene(8, 9, soft=1)
    assert estimate_foreground(photo, alpha).shape == (8, 9, 3)
