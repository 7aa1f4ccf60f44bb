"""The measures of salient object detection: max F, weighted F, S and E. 0 to 1, more is better.

All functions take ``matte``, a float array (H, W) with alpha in [0, 1], and ``inside``, the true mask as bool (H, W). They are
written from the papers and agree with pysodmetrics 1.6.2 (see the tests), except for one thing on purpose: the matte is taken
as it is, not stretched to the full range first, as a faint matte is a faint cutout.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

#: Weight of precision against recall in the F measure, by the habit of the field.
BETA_SQUARED = 0.3

#: Keeps ratios of nothing to nothing finite.
TINY = float(np.spacing(1.0))


def f_max(matte: np.ndarray, inside: np.ndarray) -> float:
    """The best F measure over all 256 thresholds.

    R. Achanta, S. Hemami, F. Estrada and S. Suesstrunk, "Frequency-tuned Salient Region Detection", CVPR 2009.
    """
    hits, claimed = _counts(matte, inside)
    total = np.count_nonzero(inside)
    precision, recall = hits / np.maximum(claimed, 1), hits / max(total, 1)
    below = BETA_SQUARED * precision + recall
    return float(((1 + BETA_SQUARED) * precision * recall / np.where(below > 0, below, 1)).max())


def _counts(matte: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each threshold from 255 down to 0, the pixels at or above it: those inside the truth, and all; int (256,) each."""
    levels = (matte * 255 + 0.5).astype(np.uint8)
    hits = np.bincount(levels[inside], minlength=256)
    claimed = np.bincount(levels.ravel(), minlength=256)
    return np.cumsum(hits[::-1]), np.cumsum(claimed[::-1])


def f_weighted(matte: np.ndarray, inside: np.ndarray) -> float:
    """F measure whose errors are weighted by where they are: less near other right pixels, more far from the subject.

    R. Margolin, L. Zelnik-Manor and A. Tal, "How to Evaluate Foreground Maps?", CVPR 2014, with beta 1.
    """
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
    precision = (total - missed) / (total - missed + false + TINY)
    return float(2 * recall * precision / (recall + precision + TINY))


def structure(matte: np.ndarray, inside: np.ndarray) -> float:
    """S measure: likeness of subject and background as wholes, and of four regions around the subject's centre.

    D.-P. Fan, M.-M. Cheng, Y. Liu, T. Li and A. Borji, "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017,
    with alpha 0.5.
    """
    share = float(inside.mean())
    if share == 0:
        return 1 - float(matte.mean())
    if share == 1:
        return float(matte.mean())
    objects = share * _uniform(matte[inside]) + (1 - share) * _uniform(1 - matte[~inside])
    rows, columns = np.nonzero(inside)
    row, column = round(float(rows.mean())) + 1, round(float(columns.mean())) + 1
    regions = 0.0
    for vertical in (slice(None, row), slice(row, None)):
        for horizontal in (slice(None, column), slice(column, None)):
            part = matte[vertical, horizontal].astype(np.float64)
            if part.size:
                regions += part.size / matte.size * _similarity(part, inside[vertical, horizontal].astype(np.float64))
    return max(0.0, 0.5 * objects + 0.5 * regions)


def _uniform(values: np.ndarray) -> float:
    """Equations 4 and 5 of the paper: 1 where all `values` are one."""
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(ddof=1, dtype=np.float64)) if values.size > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + deviation + TINY)


def _similarity(x: np.ndarray, y: np.ndarray) -> float:
    """Structural similarity of two regions, equation 2 of the paper."""
    mean_x, mean_y, count = x.mean(), y.mean(), x.size - 1 + TINY
    from_x, from_y = x - mean_x, y - mean_y
    variance = ((from_x**2).sum() + (from_y**2).sum()) / count
    above = 4 * mean_x * mean_y * (from_x * from_y).sum() / count
    below = (mean_x**2 + mean_y**2) * variance
    if above != 0:
        return float(above / (below + TINY))
    return 1.0 if below == 0 else 0.0


def e_mean(matte: np.ndarray, inside: np.ndarray) -> float:
    """E measure, the mean over all 256 thresholds, as tables of DIS5K print it.

    D.-P. Fan, C. Gong, Y. Cao, B. Ren, M.-M. Cheng and A. Borji, "Enhanced-alignment Measure for Binary Foreground Map
    Evaluation", IJCAI 2018. Two binary masks have four kinds of pixels, so each threshold takes four products. A perfect
    binary matte has 1 at every threshold but the lowest, where every picture is all subject: 0.997 or so.
    """
    hits, claimed = _counts(matte, inside)
    total, size = int(np.count_nonzero(inside)), inside.size
    if total == 0:
        return float((size - claimed).mean() / size)
    if total == size:
        return float(claimed.mean() / size)
    own_mean, true_mean = claimed / size, total / size
    counts = {(1, 1): hits, (1, 0): claimed - hits, (0, 1): total - hits, (0, 0): size - claimed - total + hits}
    aligned = np.zeros(256)
    for (own, true), count in counts.items():
        a, b = own - own_mean, true - true_mean
        aligned += count * (2 * a * b / (a**2 + b**2 + TINY) + 1) ** 2 / 4
    return float(aligned.mean() / size)
