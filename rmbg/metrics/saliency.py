"""Metrics of salient object detection: max F, weighted F, S and E, in [0, 1]; larger is better.

All functions take ``matte``, a float array (H, W) with alpha in [0, 1], and ``inside``, the true mask as bool (H, W). They
follow the papers and agree with pysodmetrics 1.6.2 (see the tests) with one intended exception: the matte is not stretched
to the full range first, as a faint matte is a faint cutout.
"""

from __future__ import annotations

import numpy as np

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
