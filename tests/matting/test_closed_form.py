"""rmbg.matting.closed_form, laplacian and trimap: alpha matting in the unknown band."""

import numpy as np
import pytest
from scipy import ndimage

from rmbg.errors import CancelledError
from rmbg.matting import closed_form
from rmbg.matting.closed_form import laplacian_weights, refine_alpha, unknown_system
from rmbg.matting.edges import AlphaMatting
from rmbg.matting.matte import BACKGROUND, FOREGROUND, UNKNOWN, make_trimap
from tests.memory import peak
from tests.pictures import scene


@pytest.fixture(scope="module")
def case():
    """A photo, its true alpha, and a coarse matte with the edge about five pixels off."""
    photo, alpha, _, _ = scene(160, 200, soft=1.5)
    coarse = ndimage.gaussian_filter(np.roll((alpha > 0.5).astype(np.float32), (3, -4), (0, 1)), 3)
    return photo, alpha, coarse


def test_alpha_follows_the_photo(case):
    photo, alpha, coarse = case
    refined = refine_alpha(photo, coarse, AlphaMatting(erode_size=15))
    assert refined.dtype == np.float32 and refined.min() >= 0 and refined.max() <= 1
    assert np.abs(refined - alpha).mean() < 0.5 * np.abs(coarse - alpha).mean()


def test_known_pixels_are_set_and_others_stay_near_the_matte_without_colors(case):
    _, _, coarse = case
    trimap = make_trimap(coarse, AlphaMatting())
    refined = refine_alpha(np.full((160, 200, 3), 90, np.uint8), coarse, AlphaMatting())
    assert (refined[trimap == FOREGROUND] == 1).all() and (refined[trimap == BACKGROUND] == 0).all()
    assert np.abs(refined - coarse)[trimap == UNKNOWN].mean() < 0.15


def test_a_matte_without_a_band_is_kept():
    matte = np.zeros((40, 50), np.float32)
    np.testing.assert_array_equal(refine_alpha(np.zeros((40, 50, 3), np.uint8), matte, AlphaMatting()), matte)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3)])
def test_tiny_photos(size):
    matte = np.full(size, 0.5, np.float32)
    assert refine_alpha(np.full((*size, 3), 7, np.uint8), matte, AlphaMatting()) == pytest.approx(0.5, abs=0.01)


def test_tiles_leave_no_seams(case, monkeypatch):
    photo, _, coarse = case
    whole = refine_alpha(photo, coarse, AlphaMatting(erode_size=15))
    monkeypatch.setattr(closed_form, "TILE", 48)
    tiled = refine_alpha(photo, coarse, AlphaMatting(erode_size=15))
    assert np.abs(tiled - whole).max() < 0.05


def test_memory_does_not_grow_with_the_number_of_tiles(monkeypatch):
    """A photo of 24 megapixels fits: beside the tile that is solved, there are full-size masks and mattes only."""
    monkeypatch.setattr(closed_form, "TILE", 64)
    monkeypatch.setattr(closed_form, "MARGIN", 8)

    def used(width: int) -> int:
        photo = np.random.default_rng(0).integers(0, 256, (128, width, 3), np.uint8)
        matte = np.full((128, width), 0.5, np.float32)
        return peak(lambda: refine_alpha(photo, matte, AlphaMatting()))

    used(128)  # imports SciPy
    assert used(1024) - used(128) < 24 * 128 * (1024 - 128), "24 bytes a pixel: 0.6 GB for 24 megapixels"


def test_progress_and_cancellation(case, monkeypatch):
    monkeypatch.setattr(closed_form, "TILE", 48)
    photo, _, coarse = case
    fractions = []
    refine_alpha(photo, coarse, AlphaMatting(), progress=lambda fraction, text: fractions.append(fraction))
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1 and len(fractions) > 4
    seen = []
    with pytest.raises(CancelledError):
        refine_alpha(
            photo, coarse, AlphaMatting(), progress=lambda fraction, text: seen.append(1), cancelled=lambda: len(seen) == 2
        )
    assert len(seen) == 2


def test_laplacian_is_symmetric_and_zero_for_linear_functions_of_color():
    rgb = np.random.default_rng(1).integers(0, 256, (9, 11, 3), np.uint8)
    matrix, right = unknown_system(laplacian_weights(rgb, 1e-9), np.zeros((9, 11)), np.ones((9, 11), bool))
    dense = matrix.toarray()
    np.testing.assert_allclose(dense, dense.T, atol=1e-9)
    np.testing.assert_allclose(dense.sum(axis=1), 0, atol=1e-9)
    assert np.linalg.eigvalsh(dense).min() > -1e-9 and not right.any()
    linear = rgb.reshape(-1, 3) @ [0.002, -0.001, 0.0005] + 0.3
    assert np.abs(dense @ linear).max() < 1e-5


def test_fixed_pixels_move_to_the_right_side():
    rgb = np.random.default_rng(1).integers(0, 256, (6, 7, 3), np.uint8)
    weights = laplacian_weights(rgb)
    alpha = np.random.default_rng(2).random((6, 7))
    unknown = np.zeros((6, 7), bool)
    unknown[2:4, 1:5] = True
    everything, _ = unknown_system(weights, alpha, np.ones((6, 7), bool))
    matrix, right = unknown_system(weights, alpha, unknown)
    residual = (everything @ alpha.ravel())[unknown.ravel()]
    np.testing.assert_allclose(matrix @ alpha[unknown] - right, residual, atol=1e-12)


def test_trimap_thresholds_and_band():
    matte = np.zeros((60, 200), np.float32)
    matte[:, 100:] = 1
    trimap = make_trimap(matte, AlphaMatting(erode_size=11))
    assert (trimap[:, 95:105] == UNKNOWN).all()
    assert (trimap[:, :95] == BACKGROUND).all() and (trimap[:, 105:] == FOREGROUND).all()
    levels = np.array([[9, 10, 240, 241]], np.float32) / 255
    narrow = [make_trimap(levels[:, i : i + 1], AlphaMatting(erode_size=1))[0, 0] for i in range(4)]
    assert narrow == [BACKGROUND, UNKNOWN, UNKNOWN, FOREGROUND]


def test_the_band_grows_with_the_photo():
    matte = np.zeros((8, 4096), np.float32)
    matte[:, 2048:] = 1
    assert (make_trimap(matte, AlphaMatting(erode_size=10)) == UNKNOWN)[0].sum() == pytest.approx(40, abs=2)
