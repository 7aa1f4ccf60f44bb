"""Color model of a photo that corrects a network's matte: Bayes' rule with one Gaussian for each side.

A small network finds shapes reliably and gaps poorly: it fills the space between the spindles of a chair. The log-odds of the
network are the prior here. The likelihood of a pixel's color is taken from the colors of foreground and background around it,
as in Y.-Y. Chuang, B. Curless, D. Salesin and R. Szeliski, "A Bayesian Approach to Digital Matting", CVPR 2001. In front of
a plain background colors separate the two sides almost completely, and may overrule the network. Elsewhere their influence
is limited.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image

from rmbg.images.pixels import downscale
from rmbg.matting.matte import dilate, erode_cross, gaussian, gradient_magnitude, label, pixel_window, resized
from rmbg.runtime.threads import row_strips, run_parallel

#: Longest side, in pixels, of the copy that pixels are classified on, and of the one that color statistics are taken on.
WORKING_SIDE, STATISTICS_SIDE = 640, 80

#: Standard deviations of the two Gaussian windows of the color statistics, as fractions of the longer side. The global window
#: has a hundredth of the local one's weight and decides only where the local one holds no samples.
LOCAL_SIGMA, GLOBAL_SIGMA, GLOBAL_WEIGHT = 0.25, 1.0, 1e-2

#: Linear light of each level of sRGB (IEC 61966-2-1).
SRGB_TO_LINEAR = np.array(
    [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255], np.float32
)

#: From linear sRGB (red, green, blue) to X, Y and Z, each relative to the white D65; transposed.
TO_RELATIVE_XYZ = np.array(
    [
        [0.4124 / 0.9505, 0.2126, 0.0193 / 1.089],
        [0.3576 / 0.9505, 0.7152, 0.1192 / 1.089],
        [0.1805 / 0.9505, 0.0722, 0.9505 / 1.089],
    ],
    np.float32,
)

#: Rows that are converted to CIELAB at a time.
STRIP_ROWS = 32

#: Least standard deviation of a color model, in units of CIELAB.
MIN_STANDARD_DEVIATION = 3.0

#: Background variation below which a background counts as plain, in units of CIELAB.
PLAIN_VARIATION = 4.2

#: For plain backgrounds: the largest foreground logit of the prior, the largest absolute log-likelihood ratio, and the
#: number of iterations. Background logits are not limited: the network misses thin parts with low confidence, but rejects
#: the joints of a brick wall with high confidence.
PLAIN_MAX_PRIOR, PLAIN_MAX_RATIO, PLAIN_ITERATIONS = 3.0, 4.0, 3

#: Probability from which the network's foreground is confident.
CONFIDENT = 0.8

#: Least mean color gradient along the outline of a gap, in units of CIELAB a pixel, and the mean logit from which all of
#: it is required; for lower logits it shrinks in proportion. Weaker gradients are shading.
MIN_EDGE_GRADIENT, FULL_GRADIENT_LOGIT = 6.2, 5.5

#: Mean logit above which a region is never removed, whatever its outline: the white bottom of a plate on a white table.
MAX_REMOVABLE_LOGIT = 4.6

#: Pixels around regions that their outline and the gradient there depend on.
OUTLINE_MARGIN = 8

#: Fraction of the confident foreground that may be removed without support. Above it foreground and background share their
#: colors, as a white sofa in a white room, and the color model is discarded.
MAX_UNSUPPORTED_FRACTION = 0.25

#: For other backgrounds: the largest absolute log-likelihood ratio, and its weight.
BUSY_MAX_RATIO, BUSY_RATIO_WEIGHT = 3.0, 0.5


def apply_color_prior(logits: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Combine a network's logits with the photo's color model into a matte.

    Parameters
    ----------
    logits : float32 array (h, w)
        Log-odds of foreground against background, for the whole photo resized to any shape.
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    float32 array
        Alpha in [0, 1], of the photo's proportions and at most `WORKING_SIDE` pixels a side.
    """
    lab = small_lab(rgb)
    height, width = lab.shape[:2]
    prior = resized(logits, height, width)
    alpha = sigmoid(prior)
    ratio = log_likelihood_ratio(lab, alpha)
    if background_variation(lab[::2, ::2], alpha[::2, ::2]) >= PLAIN_VARIATION:
        return sigmoid(prior + BUSY_RATIO_WEIGHT * np.clip(ratio, -BUSY_MAX_RATIO, BUSY_MAX_RATIO))
    clipped = np.minimum(prior, PLAIN_MAX_PRIOR)
    posterior = sigmoid(clipped + np.clip(ratio, -PLAIN_MAX_RATIO, PLAIN_MAX_RATIO))
    for _ in range(PLAIN_ITERATIONS - 1):
        posterior = sigmoid(clipped + np.clip(log_likelihood_ratio(lab, posterior), -PLAIN_MAX_RATIO, PLAIN_MAX_RATIO))
    unsupported, confident = _unsupported_removals(prior, posterior, lab), alpha > CONFIDENT
    if (unsupported & confident).sum() > MAX_UNSUPPORTED_FRACTION * confident.sum():
        return alpha
    return np.where(unsupported, alpha, posterior)


def _unsupported_removals(prior: np.ndarray, posterior: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """Mask of confident foreground that the colors removed although it does not have the form of a gap: bool (h, w).

    A gap lies inside a subject and has a visible edge. A region that reaches the picture's border may be a white shirt in
    front of a white wall, and one without an edge may be a highlight that has the wall's color. The required edge grows
    with the network's confidence.
    """
    regions, count = label((sigmoid(prior) > CONFIDENT) & (posterior < CONFIDENT))
    if not count:
        return np.zeros(prior.shape, bool)
    unsupported = np.zeros(count + 1, bool)
    unsupported[np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]])] = True
    result = np.zeros(prior.shape, bool)
    window = pixel_window(regions > 0, OUTLINE_MARGIN)
    regions, prior, lab = regions[window], prior[window], lab[window]
    squares = run_parallel(lambda channel: gradient_magnitude(lab[..., channel], 1.0) ** 2, range(3))
    gradient = np.sqrt(sum(squares))
    dilated = dilate(regions, 2)
    outline = (dilated > 0) & ~erode_cross(regions > 0, 2)
    pixels = np.bincount(dilated[outline], minlength=count + 1)
    mean_gradient = np.bincount(dilated[outline], gradient[outline], minlength=count + 1) / np.maximum(pixels, 1)
    mean_logit = np.bincount(regions.ravel(), prior.ravel(), minlength=count + 1) / np.maximum(np.bincount(regions.ravel()), 1)
    unsupported |= mean_gradient < MIN_EDGE_GRADIENT * np.minimum(1, mean_logit / FULL_GRADIENT_LOGIT)
    unsupported |= mean_logit > MAX_REMOVABLE_LOGIT
    unsupported[0] = False
    # The dilated regions, so that the soft rim of a region is restored with it.
    result[window] = unsupported[dilated]
    return result


def log_likelihood_ratio(lab: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of each pixel's color under the foreground's and the background's color model: float32 (h, w).

    The ratio of two Gaussians with independent channels is a polynomial of second degree in each channel. Its coefficients
    vary slowly, so they are computed on a grid and interpolated.
    """
    foreground, background = run_parallel(lambda probability: _gaussians(lab, probability), (alpha, 1 - alpha))
    polynomials = (background - foreground) / 2

    def interpolated(index: int) -> np.ndarray:
        return resized(polynomials[index], *alpha.shape)

    def term(channel: int) -> np.ndarray:
        color = lab[..., channel]
        value = interpolated(1 + 2 * channel) * color
        value += interpolated(2 + 2 * channel)
        value *= color
        return value

    terms = run_parallel(term, range(3))
    result = interpolated(0) + terms[0]
    result += terms[1]
    result += terms[2]
    return result


def _gaussians(lab: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Negative log-likelihoods under the color models of one side, times two and without their constant.

    Returns
    -------
    float32 array (7, rows, columns)
        Coefficients for the cells of the grid: the constant one, then for each channel the quadratic and the linear one.
    """
    mean, variance = _local_color_statistics(lab, _sample_weights(probability))
    variance += MIN_STANDARD_DEVIATION**2
    result = np.empty((7, *mean.shape[1:]), np.float32)
    result[0] = (mean**2 / variance + np.log(variance)).sum(axis=0)
    result[1::2] = 1 / variance
    result[2::2] = -2 * mean / variance
    return result


def background_variation(lab: np.ndarray, alpha: np.ndarray) -> float:
    """Mean distance of background pixels from the local mean of the background, in units of CIELAB."""
    weights = _sample_weights(1 - alpha)
    mean, _ = _local_color_statistics(lab, weights)
    squares = sum((lab[..., channel] - resized(mean[channel], *alpha.shape)) ** 2 for channel in range(3))
    return float(np.average(np.sqrt(squares), weights=weights))


def _sample_weights(probability: np.ndarray) -> np.ndarray:
    """Weights of pixels as samples of a side: 0 below a probability of 0.65, rising to 1 at 0.95."""
    return np.clip((probability - 0.65) / 0.3, 0, 1) + np.float32(1e-7)


def _local_color_statistics(lab: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and variance of the colors around the cells of a grid: two float32 arrays (3, rows, columns).

    One of four pixels is a sample.
    """
    scale = STATISTICS_SIDE / max(weights.shape)
    rows, columns = (max(8, round(side * scale)) for side in weights.shape)
    weights = weights[::2, ::2]
    planes = [weights]
    for channel in range(3):
        plane = lab[::2, ::2, channel]
        weighted = plane * weights
        planes += [weighted, plane * weighted]
    small = np.stack([resized(plane, rows, columns, Image.Resampling.BOX) for plane in planes])
    sums = sum(
        window_weight * (_gaussian_matrix(rows, sigma) @ small @ _gaussian_matrix(columns, sigma))
        for window_weight, sigma in (
            (1.0, LOCAL_SIGMA * STATISTICS_SIDE),
            (GLOBAL_WEIGHT, GLOBAL_SIGMA * STATISTICS_SIDE),
        )
    )
    sums = sums + 1e-5 * small.mean(axis=(1, 2), keepdims=True)
    mean = sums[1::2] / sums[0]
    return mean, np.maximum(sums[2::2] / sums[0] - mean**2, 0)


@functools.cache
def _gaussian_matrix(length: int, sigma: float) -> np.ndarray:
    """Gaussian filter along an axis of `length` pixels as a matrix, with zeros beyond the ends: float32 (length, length)."""
    position = np.arange(length)
    distance = (position[:, None] - position) / sigma
    return (np.exp(-0.5 * distance**2) / (sigma * math.sqrt(2 * math.pi))).astype(np.float32)


def small_lab(rgb: np.ndarray) -> np.ndarray:
    """Reduce a photo to `WORKING_SIDE`, smooth it slightly and convert it to CIELAB (D65).

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    float32 array (h, w, 3)
        Lightness in [0, 100], then a* and b*.
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = downscale(rgb, *size, reducing_gap=1.0)
    planes = np.empty((3, *small.shape[:2]), np.float32)

    def convert(rows: slice) -> None:
        xyz = SRGB_TO_LINEAR[small[rows]] @ TO_RELATIVE_XYZ
        x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
        planes[0, rows], planes[1, rows], planes[2, rows] = 116 * y - 16, 500 * (x - y), 200 * (y - z)

    run_parallel(convert, row_strips(len(small), STRIP_ROWS))
    # Channels are contiguous in memory: most steps process one at a time.
    return np.moveaxis(np.stack(run_parallel(lambda plane: gaussian(plane, 0.7), planes)), 0, -1)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Convert log-odds to probabilities: float32, of the shape of `logits`."""
    return (1 / (1 + np.exp(-logits))).astype(np.float32)
