"""Quality of a matte against the truth: scores of the composite, matting errors, and metrics of salient object detection.

Matting errors, of which smaller is better: MAE, SAD, MSE, gradient and connectivity, by C. Rhemann, C. Rother, J. Wang,
M. Gelautz, P. Kohli and P. Rott, "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009. There the sums are
taken over the unknown part of a trimap; here, without a trimap, over the whole picture. Sums are in thousands, as usual.

All functions take ``matte``, and ``truth`` or its mask ``inside``: float arrays (H, W) with alpha in [0, 1], and bool (H, W).
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

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
    convolve = functools.partial(ndimage.convolve1d, mode="nearest")
    return np.hypot(*(convolve(convolve(alpha, smooth, axis=1 - axis), derivative, axis=axis) for axis in (0, 1)))


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


# Metrics of salient object detection, in [0, 1]; larger is better.

#: Weight of precision against recall in the F measure, the usual value.
BETA_SQUARED = 0.3

#: Added to denominators that may be zero.
EPSILON = float(np.spacing(1.0))


def f_max(matte: np.ndarray, inside: np.ndarray) -> float:
    """Maximum of the F measure over 256 thresholds.

    R. Achanta, S. Hemami, F. Estrada and S. Suesstrunk, "Frequency-tuned Salient Region Detection", CVPR 2009.
    """
    hits, predicted = _counts(matte, inside)
    total = np.count_nonzero(inside)
    precision, recall = hits / np.maximum(predicted, 1), hits / max(total, 1)
    denominator = BETA_SQUARED * precision + recall
    return float(((1 + BETA_SQUARED) * precision * recall / np.where(denominator > 0, denominator, 1)).max())


def _counts(matte: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels at or above each threshold from 255 down to 0, inside the truth and in total: two int arrays (256,)."""
    levels = (matte * 255 + 0.5).astype(np.uint8)
    hits = np.bincount(levels[inside], minlength=256)
    predicted = np.bincount(levels.ravel(), minlength=256)
    return np.cumsum(hits[::-1]), np.cumsum(predicted[::-1])


def f_weighted(matte: np.ndarray, inside: np.ndarray) -> float:
    """F measure with errors weighted by their location.

    R. Margolin, L. Zelnik-Manor and A. Tal, "How to Evaluate Foreground Maps?", CVPR 2014, with beta 1.
    """
    from scipy import ndimage  # deferred, as SciPy takes long to import

    if not inside.any():
        return 0.0
    distance, nearest = ndimage.distance_transform_edt(~inside, return_indices=True)
    error = np.abs(matte - inside)
    spread = np.where(inside, error, error[nearest[0], nearest[1]])
    x = np.arange(-3, 4)
    kernel = np.exp(-(x**2) / (2 * 5.0**2))
    kernel /= kernel.sum()
    for axis in (0, 1):
        spread = ndimage.convolve1d(spread, kernel, axis=axis, mode="constant")
    missed = np.minimum(error, spread)[inside].sum(dtype=np.float64)
    outside = ~inside
    weight = 2 - np.exp(np.log(0.5) / 5 * distance[outside])
    false = (error[outside] * weight).sum(dtype=np.float64)
    total = np.count_nonzero(inside)
    recall = 1 - missed / total
    precision = (total - missed) / (total - missed + false + EPSILON)
    return float(2 * recall * precision / (recall + precision + EPSILON))


def structure(matte: np.ndarray, inside: np.ndarray) -> float:
    """S measure: object-aware and region-aware structural similarity.

    D.-P. Fan, M.-M. Cheng, Y. Liu, T. Li and A. Borji, "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017,
    with alpha 0.5.
    """
    area = float(inside.mean())
    if area == 0:
        return 1 - float(matte.mean())
    if area == 1:
        return float(matte.mean())
    objects = area * _uniformity(matte[inside]) + (1 - area) * _uniformity(1 - matte[~inside])
    rows, columns = np.nonzero(inside)
    row, column = round(float(rows.mean())) + 1, round(float(columns.mean())) + 1
    regions = 0.0
    for vertical in (slice(None, row), slice(row, None)):
        for horizontal in (slice(None, column), slice(column, None)):
            part = matte[vertical, horizontal].astype(np.float64)
            if part.size:
                regions += part.size / matte.size * _similarity(part, inside[vertical, horizontal].astype(np.float64))
    return max(0.0, 0.5 * objects + 0.5 * regions)


def _uniformity(values: np.ndarray) -> float:
    """Object similarity, equations 4 and 5 of the paper: 1 if all `values` are 1."""
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(ddof=1, dtype=np.float64)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation + EPSILON)


def _similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Structural similarity of two regions, equation 2 of the paper."""
    mean_x, mean_y, count = x.mean(), y.mean(), x.size - 1 + EPSILON
    centered_x, centered_y = x - mean_x, y - mean_y
    variance = ((centered_x**2).sum() + (centered_y**2).sum()) / count
    numerator = 4 * mean_x * mean_y * (centered_x * centered_y).sum() / count
    denominator = (mean_x**2 + mean_y**2) * variance
    if numerator != 0:
        return float(numerator / (denominator + EPSILON))
    return 1.0 if denominator == 0 else 0.0


def e_mean(matte: np.ndarray, inside: np.ndarray) -> float:
    """Mean of the E measure over 256 thresholds, as in the tables of DIS5K.

    D.-P. Fan, C. Gong, Y. Cao, B. Ren, M.-M. Cheng and A. Borji, "Enhanced-alignment Measure for Binary Foreground Map
    Evaluation", IJCAI 2018. Two binary masks have four combinations of pixel values, so four products are computed for each
    threshold. A perfect binary matte scores about 0.997: 1 at each threshold but the lowest, at which every pixel is
    foreground.
    """
    hits, predicted = _counts(matte, inside)
    total, size = int(np.count_nonzero(inside)), inside.size
    if total == 0:
        return float((size - predicted).mean() / size)
    if total == size:
        return float(predicted.mean() / size)
    predicted_mean, true_mean = predicted / size, total / size
    counts = {(1, 1): hits, (1, 0): predicted - hits, (0, 1): total - hits, (0, 0): size - predicted - total + hits}
    aligned = np.zeros(256)
    for (guess, true), count in counts.items():
        a, b = guess - predicted_mean, true - true_mean
        aligned += count * (2 * a * b / (a**2 + b**2 + EPSILON) + 1) ** 2 / 4
    return float(aligned.mean() / size)


# The three scores of the composite, and all metrics of one picture in one call.

#: Half the width of the band around the true boundary, and tolerance of the boundary F measure: fractions of the picture's
#: diagonal, and minimum in pixels.
BAND, BAND_PIXELS = 0.005, 2.0
TOLERANCE, TOLERANCE_PIXELS = 0.0025, 1.0

#: Range of semi-transparent alpha; values outside may come from rounding or compression.
SOFT = (0.06, 0.94)

#: Soft regions narrower than this fraction of the diagonal (at least three pixels) are edges, not transparent parts.
SOFT_WIDTH = 0.002

#: Smallest semi-transparent fraction of the picture for which the score is computed.
MIN_SOFT_AREA = 0.001

#: Weights of IoU, edge and transparency in the composite, as in the published benchmark.
WEIGHTS = (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class Metric:
    """A column of the tables: id, heading, direction, and number of decimals."""

    id: str
    title: str
    more_is_better: bool
    decimals: int


METRICS = (
    Metric("composite", "Composite", True, 1),
    Metric("iou", "IoU", True, 1),
    Metric("edge", "Edge quality", True, 1),
    Metric("transparency", "Transparency", True, 1),
    Metric("mae", "MAE", False, 4),
    Metric("f_max", "max F", True, 3),
    Metric("f_weighted", "weighted F", True, 3),
    Metric("s", "S", True, 3),
    Metric("e_mean", "mean E", True, 3),
    Metric("sad", "SAD", False, 2),
    Metric("mse", "MSE", False, 4),
    Metric("gradient", "Gradient", False, 2),
    Metric("connectivity", "Connectivity", False, 2),
)


def measure(matte: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """Compute every metric of `METRICS`, by id; None for those that do not apply to this picture."""
    matte, truth = (np.clip(np.asarray(values, np.float32), 0.0, 1.0) for values in (matte, truth))
    if matte.shape != truth.shape:
        raise ValueError(f"The matte is {matte.shape}, the truth {truth.shape}.")
    inside = truth > 0.5
    scores = iou(matte, truth), edge(matte, truth), transparency(matte, truth)
    return {
        "composite": composite(*scores),
        **dict(zip(("iou", "edge", "transparency"), scores, strict=True)),
        "mae": mae(matte, truth),
        "f_max": f_max(matte, inside),
        "f_weighted": f_weighted(matte, inside),
        "s": structure(matte, inside),
        "e_mean": e_mean(matte, inside),
        "sad": sad(matte, truth),
        "mse": mse(matte, truth),
        "gradient": gradient(matte, truth),
        "connectivity": connectivity(matte, truth),
    }


def composite(iou: float, edge: float | None, transparency: float | None) -> float:
    """Weighted mean of the scores that apply: 0.5 IoU, 0.3 edge, 0.2 transparency."""
    pairs = zip((iou, edge, transparency), WEIGHTS, strict=True)
    known = [(score, weight) for score, weight in pairs if score is not None]
    return sum(score * weight for score, weight in known) / sum(weight for _, weight in known)


def iou(matte: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union, binarized at alpha 0.5; 100 if both masks are empty."""
    predicted, expected = matte > 0.5, truth > 0.5
    union = np.count_nonzero(predicted | expected)
    return 100.0 * np.count_nonzero(predicted & expected) / union if union else 100.0


def edge(matte: np.ndarray, truth: np.ndarray) -> float | None:
    """Geometric mean of the alpha accuracy in a band around the true boundary and of the boundary F measure.

    None if the truth has no boundary inside the picture.
    """
    from scipy import ndimage  # deferred, as SciPy takes long to import

    true_edge = boundary(truth > 0.5)
    if not true_edge.any():
        return None
    distance = ndimage.distance_transform_edt(~true_edge)
    band = distance <= band_width(truth.shape)
    predicted_edge = boundary(matte > 0.5)
    if not predicted_edge.any():
        return 0.0
    tolerance = max(TOLERANCE_PIXELS, TOLERANCE * math.hypot(*truth.shape))
    precision = float(np.mean(distance[predicted_edge] <= tolerance))
    recall = float(np.mean(ndimage.distance_transform_edt(~predicted_edge)[true_edge] <= tolerance))
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return 100.0 * float(np.sqrt(accuracy(matte[band], truth[band]) * f))


def band_width(shape: tuple[int, ...]) -> float:
    """Half the width of the band around a boundary, in pixels."""
    return max(BAND_PIXELS, BAND * math.hypot(*shape))


def transparency(matte: np.ndarray, truth: np.ndarray) -> float | None:
    """Alpha accuracy on the semi-transparent parts of the truth; None if there are none."""
    soft = semi_transparent(truth)
    if soft.mean() < MIN_SOFT_AREA:
        return None
    return 100.0 * accuracy(matte[soft], truth[soft])


def accuracy(matte: np.ndarray, truth: np.ndarray) -> float:
    """One minus the ratio of the error to the largest possible error: 0 to 1.

    The largest possible error of a pixel is max(truth, 1 - truth). Glass of alpha 0.5 that is predicted as opaque or as
    transparent therefore scores 0, not 0.5 as with the mean absolute error.
    """
    possible = np.maximum(truth, 1 - truth).sum(dtype=np.float64)
    return 1.0 - float(np.abs(matte - truth).sum(dtype=np.float64) / possible)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a 4-neighbor outside it; the picture's border is not a boundary."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def semi_transparent(truth: np.ndarray) -> np.ndarray:
    """Mask of soft regions that are wider than an edge: bool (H, W).

    A morphological opening by a square removes antialiased edges, by separable filters whose time does not depend on the side.
    """
    from scipy import ndimage  # deferred, as SciPy takes long to import

    soft = (truth > SOFT[0]) & (truth < SOFT[1])
    side = 2 * max(1, round(SOFT_WIDTH / 2 * math.hypot(*truth.shape))) + 1
    low = ndimage.minimum_filter(soft.view(np.uint8), side, mode="constant", cval=0)
    return ndimage.maximum_filter(low, side, mode="constant", cval=0).view(bool)
