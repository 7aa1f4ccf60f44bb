"""Synthetic mattes for the tests of metrics and benchmark."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def chair() -> np.ndarray:
    """Ground truth with straight edges, a comb of thin parts, a hole and a semi-transparent area of alpha 0.6."""
    matte = np.zeros((480, 640), np.float32)
    matte[80:400, 120:520] = 1
    for left in range(140, 500, 20):
        matte[80:160, left : left + 10] = 0
    matte[200:370, 360:490] = 0
    matte = ndimage.gaussian_filter(matte, 0.6)
    matte[200:300, 150:320] = 0.6
    return matte


def worse_and_worse(truth: np.ndarray) -> dict[str, np.ndarray]:
    """Mattes for `chair`, from best to worst."""
    box = np.zeros_like(truth)
    box[80:400, 120:520] = 1
    return {
        "perfect": truth,
        "blurred": ndimage.gaussian_filter(truth, 0.8),
        "shifted": np.roll(truth, (1, 2), (0, 1)),
        "box": box,
        "empty": np.zeros_like(truth),
    }


def seeded(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random true mask, bool (h, w), and a noisy matte of it in [0, 1], quantized to 8 bits."""
    random = np.random.default_rng(seed)
    height, width = (int(n) for n in random.integers(60, 120, 2))
    field = ndimage.gaussian_filter(random.normal(size=(height, width)), 9)
    inside = field > np.quantile(field, 0.6)
    matte = ndimage.gaussian_filter(inside.astype(float), 2) + 0.2 * random.normal(size=inside.shape)
    matte = (matte - matte.min()) / (matte.max() - matte.min())
    return np.rint(matte * 255) / 255, inside
