"""rmbg.networks.refiner: both engines, weights."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from rmbg.inference import builtin_runner
from rmbg.inference.engines import Plan
from rmbg.matting.color_prior import sigmoid
from rmbg.matting.matte import sharpen_edges
from rmbg.matting.refiner import SLOPE
from rmbg.networks import refiner_spec
from tests.pictures import scene

SIDE = refiner_spec.SIDE


def networks(engine: str) -> builtin_runner.Networks:
    if engine == "torch":
        return builtin_runner.torch_networks(Plan("torch", "cpu", "fp32"))
    pytest.importorskip("rmbg.inference.engines")
    return builtin_runner.openvino_networks()


def window() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A scene as the network's input, its coarse matte in cells of 8 pixels, and the true matte, float32 (SIDE, SIDE)."""
    rgb, alpha = scene(SIDE, SIDE)[:2]
    cells = alpha.astype(np.float32).reshape(SIDE // 8, 8, SIDE // 8, 8).mean((1, 3))
    coarse = cells.repeat(8, 0).repeat(8, 1)
    pixels = rgb.transpose(2, 0, 1)[None].astype(np.float32) / 255
    return np.ascontiguousarray(pixels), np.ascontiguousarray(coarse[None, None]), alpha.astype(np.float32)


def test_engines_agree() -> None:
    rgb, coarse, _ = window()
    mattes = [sigmoid(networks(engine).correct(rgb, coarse)) for engine in ("torch", "openvino")]
    assert mattes[0].shape == (SIDE, SIDE) and mattes[0].dtype == np.float32
    np.testing.assert_allclose(*mattes, atol=1e-4)


def test_a_displaced_edge_is_corrected_and_flat_regions_are_left_alone() -> None:
    rgb, _, truth = window()
    displaced = ndimage.gaussian_filter(np.roll(truth, (5, 5), (0, 1)), 3)
    refined = sharpen_edges(sigmoid(networks("torch").correct(rgb, displaced[None, None])), SLOPE)
    assert np.abs(refined - truth).mean() < 0.65 * np.abs(displaced - truth).mean()
    assert (refined[truth == 0] == 0).mean() > 0.95 and (refined[truth == 1] == 1).mean() > 0.95
