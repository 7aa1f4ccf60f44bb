"""rmbg.matting.foreground and rmbg.images.pixels: photos with alpha of their own."""

import numpy as np
import pytest

from rmbg.images.photo import Photo
from rmbg.images.pixels import fill_hidden
from rmbg.matting.foreground import finish
from tests.pictures import disc, scene

MAGENTA = (255, 0, 255)


def cutout_file() -> tuple[np.ndarray, np.ndarray]:
    """A file with a soft disc of one color, and magenta hidden under alpha 0: uint8 (96, 96, 3) and (96, 96)."""
    y, x = np.mgrid[:96, :96] - 47.5
    alpha = np.rint(np.clip((30 - np.hypot(x, y)) / 8 + 0.5, 0, 1) * 255).astype(np.uint8)
    rgb = np.where((alpha > 0)[..., None], (180, 120, 40), MAGENTA).astype(np.uint8)
    return rgb, alpha


@pytest.mark.parametrize("provider", ["opaque", "same alpha", "soft edge outside"])
def test_colors_come_from_the_straight_original(provider):
    rgb, alpha = cutout_file()
    own = alpha / np.float32(255)
    matte = {
        "opaque": (own > 0).astype(np.float32),
        "same alpha": own,
        "soft edge outside": disc(96, 36) * 0.5 + disc(96, 30) * 0.5,
    }[provider]
    result, foreground = finish(Photo(rgb, alpha), matte)
    np.testing.assert_allclose(result, matte * own, atol=1e-6)
    seen = result > 0.5 / 255
    assert np.abs(foreground[seen].astype(int) - (180, 120, 40)).max() <= 2


@pytest.mark.parametrize("level", [0.1, 0.25, 0.5, 0.9])
def test_own_alpha_passes_an_opaque_matte_unchanged(level):
    photo = scene()[0]
    own = np.full(photo.shape[:2], round(level * 255), np.uint8)
    matte, foreground = finish(Photo(photo, own), np.ones(own.shape, np.float32))
    assert np.abs(matte - level).max() <= 1 / 255
    np.testing.assert_array_equal(foreground, photo)


def test_own_alpha_that_is_in_the_matte_is_not_multiplied_in_again():
    rgb, alpha = cutout_file()
    matte, foreground = finish(Photo(rgb, alpha), alpha / np.float32(255), own_alpha_applied=True)
    np.testing.assert_allclose(matte, alpha / 255, atol=1e-6)
    assert np.abs(foreground[alpha > 0].astype(int) - (180, 120, 40)).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (97, 64)])
def test_hidden_colors_are_replaced_by_visible_ones(size):
    alpha = np.zeros(size, np.uint8)
    rgb = np.full((*size, 3), MAGENTA, np.uint8)
    assert (fill_hidden(rgb, alpha) == 255).all()
    alpha[0, 0], rgb[0, 0] = 1, (20, 40, 60)
    assert np.abs(fill_hidden(rgb, alpha).astype(int) - (20, 40, 60)).max() <= 2
    assert fill_hidden(rgb, np.maximum(alpha, 1)) is rgb


def test_hidden_pixels_take_the_color_beside_them():
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (200, 0, 0), (0, 0, 200)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[20:28, 4:12] = alpha[20:28, 52:60] = 0
    expected = rgb.copy()
    rgb[alpha == 0] = MAGENTA
    assert np.abs(fill_hidden(rgb, alpha).astype(int) - expected).max() <= 2
