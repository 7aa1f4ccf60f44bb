"""Colors of fully transparent pixels, which a file may set to anything."""

from __future__ import annotations

import numpy as np
from PIL import Image


def fill_hidden(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replace the colors of fully transparent pixels by those of visible pixels around them.

    A pyramid of means over visible pixels: each transparent pixel takes the color of the finest level that has one (pull-push,
    S. Gortler et al., "The Lumigraph", SIGGRAPH 1996).

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    alpha : uint8 array (H, W)

    Returns
    -------
    uint8 array (H, W, 3)
        `rgb` itself if no pixel is fully transparent; white if all are.
    """
    hidden = alpha == 0
    if not hidden.any():
        return rgb
    if hidden.all():
        return np.full_like(rgb, 255)
    result = rgb.copy()
    result[hidden] = 0
    half = (np.asarray(Image.fromarray(plane).reduce(2), np.float32) for plane in (result, np.uint8(255) * ~hidden))
    colors = _fill(*half)
    rows, columns = np.nonzero(hidden)
    result[rows, columns] = np.clip(colors[rows // 2, columns // 2] + 0.5, 0, 255)
    return result


def _fill(weighted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Colors at every pixel of a level, float32 (h, w, 3), from colors times weights and weights in [0, 255]."""
    height, width = weights.shape
    colors = weighted * (255 / np.maximum(weights, 1))[..., None]
    empty = weights < 1
    if empty.any() and max(height, width) > 1:
        coarse = _fill(_halve(weighted), _halve(weights))
        rows, columns = np.nonzero(empty)
        colors[rows, columns] = coarse[rows // 2, columns // 2]
    return colors


def _halve(plane: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2 pixels, so that a single visible pixel keeps its weight: float32 ((h + 1) // 2, (w + 1) // 2, ...)."""
    height, width = plane.shape[:2]
    padded = np.pad(plane, [(0, height % 2), (0, width % 2)] + [(0, 0)] * (plane.ndim - 2))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]
