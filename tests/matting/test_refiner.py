"""rmbg.matting.refiner: window, coordinates and size of the result."""

from __future__ import annotations

import numpy as np
import pytest

from rmbg.matting.guided_filter import GUIDE_PIXELS
from rmbg.matting.refiner import refine
from rmbg.networks.refiner_spec import SIDE


def confident(rgb: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Logits by the red channel: bright is foreground."""
    assert rgb.shape == (1, 3, SIDE, SIDE) and coarse.shape == (1, 1, SIDE, SIDE)
    assert rgb.dtype == coarse.dtype == np.float32 and rgb.min() >= 0 and rgb.max() <= 1
    return (40 * (rgb[0, 0] - 0.5)).astype(np.float32)


@pytest.mark.parametrize("shape", [(300, 400), (2000, 3000), (40, 900), (900, 40)])
@pytest.mark.parametrize("place", [(0.1, 0.1), (0.45, 0.5), (0.7, 0.65)])
def test_the_refined_window_is_put_back_in_place(shape: tuple[int, int], place: tuple[float, float]) -> None:
    height, width = shape
    top, left = round(place[0] * height), round(place[1] * width)
    rows, columns = slice(top, top + round(0.3 * height)), slice(left, left + round(0.3 * width))
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[rows, columns] = 255
    truth = rgb[..., 0] / np.float32(255)
    coarse = np.zeros((80, 80), np.float32)
    coarse[round(place[0] * 80) :, round(place[1] * 80) :][:24, :24] = 0.8
    refined = refine(confident, coarse, rgb)
    assert refined.dtype == np.float32 and refined.min() >= 0 and refined.max() <= 1
    assert refined.size <= min(1.01 * GUIDE_PIXELS, height * width)
    assert refined.shape[1] / refined.shape[0] == pytest.approx(width / height, rel=0.05)
    ys = (np.arange(height) * refined.shape[0] / height).astype(int)
    xs = (np.arange(width) * refined.shape[1] / width).astype(int)
    found = refined[ys][:, xs] > 0.5
    assert (found & (truth > 0.5)).sum() / (found | (truth > 0.5)).sum() > 0.9


def test_outside_of_the_window_the_matte_is_kept() -> None:
    coarse = np.zeros((50, 50), np.float32)
    coarse[20:30, 20:30] = 1
    coarse[45, 45] = 0.04
    refined = refine(confident, coarse, np.full((500, 500, 3), 255, np.uint8))
    assert refined[250, 250] > 0.9 and refined[0, 0] == 0
    assert 0 < refined[455, 455] <= 0.04


def test_far_from_its_edges_the_matte_is_kept() -> None:
    """Highlights inside a subject stay, gaps at its edge open."""
    coarse = np.zeros((400, 400), np.float32)
    coarse[80:320, 80:320] = 1
    rgb = np.full((400, 400, 3), 255, np.uint8)
    rgb[180:220, 180:220] = rgb[80:84, 180:220] = 0
    refined = refine(confident, coarse, rgb)
    assert refined[180:220, 180:220].min() == 1
    assert refined[81, 200] < 0.1 and refined[81, 120] > 0.9


def test_an_empty_matte_stays_empty() -> None:
    refined = refine(confident, np.zeros((32, 32), np.float32), np.full((64, 64, 3), 255, np.uint8))
    assert refined.shape == (64, 64) and refined.max() == 0
