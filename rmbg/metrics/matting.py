"""Matting errors: MAE, SAD, MSE, gradient and connectivity; smaller is better.

C. Rhemann, C. Rother, J. Wang, M. Gelautz, P. Kohli and P. Rott, "A Perceptually Motivated Online Benchmark for Image
Matting", CVPR 2009. There the sums are taken over the unknown part of a trimap; here, without a trimap, over the whole
picture. Sums are in thousands, as usual.

All functions take ``matte`` and ``truth``, float arrays (H, W) with alpha in [0, 1].
"""

from __future__ import annotations

import itertools

import numpy as np

#: Standard deviation in pixels of the Gaussian derivative filters of the gradient error.
SIGMA = 1.4

#: Alpha thresholds of the connectivity error, and the difference below which it is zero (theta of the paper).
LEVELS = np.linspace(0, 1, 11, dtype=np.float32)
THETA = 0.15


def mae(matte: np.ndarray, truth: np.ndarray) -> float:
    """Mean absolute difference."""
    return float(np.abs(matte - truth).mean(dtype=np.float64))


def sad(matte: np.ndarray, truth: np.ndarray) -> float:
    """Sum of absolute differences, in thousands."""
    return float(np.abs(matte - truth).sum(dtype=np.float64)) / 1000


def mse(matte: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference."""
    return float(((matte - truth) ** 2).mean(dtype=np.float64))


def gradient(matte: np.ndarray, truth: np.ndarray) -> float:
    """Sum of squared differences of the gradient magnitudes, in thousands."""
    return float(((_gradient_magnitude(matte) - _gradient_magnitude(truth)) ** 2).sum(dtype=np.float64)) / 1000


def _gradient_magnitude(alpha: np.ndarray) -> np.ndarray:
    """Gradient magnitude by Gaussian derivative filters, each kernel of unit norm: float (H, W)."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    radius = int(np.ceil(SIGMA * np.sqrt(-2 * np.log(np.sqrt(2 * np.pi) * SIGMA * 1e-2))))
    x = np.arange(-radius, radius + 1)
    smooth = np.exp(-(x**2) / (2 * SIGMA**2)) / (SIGMA * np.sqrt(2 * np.pi))
    derivative = -x * smooth / SIGMA**2
    # The norm of the 2-D kernel, an outer product, is the product of the norms of its factors.
    smooth, derivative = smooth / np.linalg.norm(smooth), derivative / np.linalg.norm(derivative)
    vertical, horizontal = (
        ndimage.convolve1d(
            ndimage.convolve1d(alpha, smooth, axis=1 - axis, mode="nearest"), derivative, axis=axis, mode="nearest"
        )
        for axis in (0, 1)
    )
    return np.hypot(vertical, horizontal)


def connectivity(matte: np.ndarray, truth: np.ndarray) -> float:
    """Sum of the differences of the degrees of connectivity, in thousands.

    At each threshold the source region is the largest connected region in which both mattes reach it. The degree of
    connectivity of a pixel is one minus the difference between its alpha and the largest threshold at which it is in the
    source region.
    """
    level = np.full(truth.shape, -1.0, dtype=np.float32)
    common = np.minimum(matte, truth)
    for low, high in itertools.pairwise(LEVELS):
        lost = (level < 0) & ~_largest(common >= high)
        level[lost] = low
    level[level < 0] = 1.0

    def degree(alpha: np.ndarray) -> np.ndarray:
        above = alpha - level
        return 1 - above * (above >= THETA)

    return float(np.abs(degree(matte) - degree(truth)).sum(dtype=np.float64)) / 1000


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected region of a mask: bool (H, W)."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    regions, count = ndimage.label(mask)
    if count < 2:
        return mask
    area = np.bincount(regions.ravel())
    area[0] = 0
    return regions == area.argmax()
