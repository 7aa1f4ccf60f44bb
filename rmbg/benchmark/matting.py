"""Errors of mattes: MAE, SAD, MSE, gradient and connectivity. Less is better.

C. Rhemann, C. Rother, J. Wang, M. Gelautz, P. Kohli and P. Rott, "A Perceptually Motivated Online Benchmark for Image
Matting", CVPR 2009. There the sums run over the unknown part of a trimap; here nobody gives a trimap, and they run over the
whole picture. Sums are in thousands, as the field prints them.

All functions take ``matte`` and ``truth``, float arrays (H, W) with alpha in [0, 1].
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

#: Standard deviation of the Gaussian whose derivatives give the gradient, in pixels.
SIGMA = 1.4

#: Levels of opacity for the connectivity error, and the difference below which it forgives.
LEVELS = np.linspace(0, 1, 11, dtype=np.float32)
FORGIVEN = 0.15


def mae(matte: np.ndarray, truth: np.ndarray) -> float:
    """Mean of |matte - truth|."""
    return float(np.abs(matte - truth).mean(dtype=np.float64))


def sad(matte: np.ndarray, truth: np.ndarray) -> float:
    """Sum of |matte - truth|, in thousands."""
    return float(np.abs(matte - truth).sum(dtype=np.float64)) / 1000


def mse(matte: np.ndarray, truth: np.ndarray) -> float:
    """Mean of (matte - truth)^2."""
    return float(((matte - truth) ** 2).mean(dtype=np.float64))


def gradient(matte: np.ndarray, truth: np.ndarray) -> float:
    """Sum of the squared differences between the two gradients' lengths, in thousands."""
    return float(((_slope(matte) - _slope(truth)) ** 2).sum(dtype=np.float64)) / 1000


def _slope(alpha: np.ndarray) -> np.ndarray:
    """Length of the gradient by first derivatives of a Gaussian, each kernel of unit length: (H, W)."""
    reach = int(np.ceil(SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * SIGMA * 1e-2))))
    x = np.arange(-reach, reach + 1)
    smooth = np.exp(-(x**2) / (2 * SIGMA**2)) / (SIGMA * np.sqrt(2 * np.pi))
    derive = -x * smooth / SIGMA**2
    # The kernel of two dimensions is an outer product, so its length is the product of these two.
    smooth, derive = smooth / np.linalg.norm(smooth), derive / np.linalg.norm(derive)
    down, across = (
        ndimage.convolve1d(ndimage.convolve1d(alpha, smooth, axis=1 - axis, mode="nearest"), derive, axis=axis, mode="nearest")
        for axis in (0, 1)
    )
    return np.hypot(down, across)


def connectivity(matte: np.ndarray, truth: np.ndarray) -> float:
    """Sum of the differences in how well each pixel hangs together with the subject, in thousands.

    The subject is the largest connected region that is opaque in both mattes; as the level of opacity rises it shrinks, and a
    pixel's degree of connectivity is one minus its alpha above the last level at which it belonged to it.
    """
    level = np.full(truth.shape, -1.0, dtype=np.float32)
    common = np.minimum(matte, truth)
    for low, high in itertools.pairwise(LEVELS):
        lost = (level < 0) & ~_largest(common >= high)
        level[lost] = low
    level[level < 0] = 1.0

    def degree(alpha: np.ndarray) -> np.ndarray:
        above = alpha - level
        return 1 - above * (above >= FORGIVEN)

    return float(np.abs(degree(matte) - degree(truth)).sum(dtype=np.float64)) / 1000


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest region of a mask whose pixels touch with their sides; nothing for an empty mask."""
    regions, count = ndimage.label(mask)
    if count < 2:
        return mask
    area = np.bincount(regions.ravel())
    area[0] = 0
    return regions == area.argmax()
