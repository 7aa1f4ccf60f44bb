"""Quality of a matte: the three scores of the composite, and all metrics of one picture in one call.

All functions take ``matte`` and ``truth``, float arrays (H, W) with alpha in [0, 1]. Scores are in [0, 100], larger is better.
``rmbg/benchmark/README.md`` has the formulas and the reasons for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rmbg.metrics import matting, saliency

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

#: Weights of the composite, as in the published benchmark.
WEIGHTS = {"iou": 0.5, "edge": 0.3, "transparency": 0.2}


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
    matte, truth = _floats(matte), _floats(truth)
    if matte.shape != truth.shape:
        raise ValueError(f"The matte is {matte.shape}, the truth {truth.shape}.")
    iou_score, edge_score, soft_score = iou(matte, truth), edge(matte, truth), transparency(matte, truth)
    inside = truth > 0.5
    return {
        "composite": composite(iou_score, edge_score, soft_score),
        "iou": iou_score,
        "edge": edge_score,
        "transparency": soft_score,
        "mae": matting.mae(matte, truth),
        "f_max": saliency.f_max(matte, inside),
        "f_weighted": saliency.f_weighted(matte, inside),
        "s": saliency.structure(matte, inside),
        "e_mean": saliency.e_mean(matte, inside),
        "sad": matting.sad(matte, truth),
        "mse": matting.mse(matte, truth),
        "gradient": matting.gradient(matte, truth),
        "connectivity": matting.connectivity(matte, truth),
    }


def _floats(values: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(values, dtype=np.float32), 0.0, 1.0)


def composite(iou: float, edge: float | None, transparency: float | None) -> float:
    """Weighted mean of the scores that apply: 0.5 IoU, 0.3 edge, 0.2 transparency."""
    scores = {"iou": iou, "edge": edge, "transparency": transparency}
    known = {name: value for name, value in scores.items() if value is not None}
    return sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)


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
    if precision + recall == 0:
        return 0.0
    f = 2 * precision * recall / (precision + recall)
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

    A morphological opening by a square removes antialiased edges.
    """
    soft = (truth > SOFT[0]) & (truth < SOFT[1])
    side = 2 * max(1, round(SOFT_WIDTH / 2 * math.hypot(*truth.shape))) + 1
    return _opening(soft, side)


def _opening(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological opening by a square, by separable filters whose time does not depend on the side."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    low = ndimage.minimum_filter(mask.view(np.uint8), side, mode="constant", cval=0)
    return ndimage.maximum_filter(low, side, mode="constant", cval=0).view(bool)
