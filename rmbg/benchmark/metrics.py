"""How good a matte is: the three scores of the composite, and all figures of one picture in one call.

All functions take ``matte`` and ``truth``, float arrays (H, W) with alpha in [0, 1]. The scores run from 0 to 100, more is
better; README.md in this folder has the formulas and says why they are what they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from rmbg.benchmark import matting, saliency

#: Half the width of the band around the true boundary, and how far a boundary may be off and still count as found; both as
#: shares of the picture's diagonal, and never below these many pixels.
BAND, BAND_PIXELS = 0.005, 2.0
TOLERANCE, TOLERANCE_PIXELS = 0.0025, 1.0

#: Alpha that is neither out nor in. Wider than rounding and compression make it.
SOFT = (0.06, 0.94)

#: A soft region narrower than this share of the diagonal (at least three pixels) is an edge, not a transparent part.
SOFT_WIDTH = 0.002

#: Share of the picture that must be truly semi-transparent for the score to apply.
SOFT_SHARE = 0.001

#: The composite's weights, from the published benchmark.
WEIGHTS = {"iou": 0.5, "edge": 0.3, "transparency": 0.2}


@dataclass(frozen=True)
class Metric:
    """A column of the tables: its heading, whether more is better, and how many decimals are worth showing."""

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
    """Every metric of `METRICS` by its id; None where one does not apply to this picture."""
    matte, truth = _floats(matte), _floats(truth)
    if matte.shape != truth.shape:
        raise ValueError(f"The matte is {matte.shape}, the truth {truth.shape}.")
    overlap, near, soft = iou(matte, truth), edge(matte, truth), transparency(matte, truth)
    inside = truth > 0.5
    return {
        "composite": composite(overlap, near, soft),
        "iou": overlap,
        "edge": near,
        "transparency": soft,
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
    """0.5 IoU + 0.3 edge + 0.2 transparency; the weights of those that do not apply go to the others in proportion."""
    given = {"iou": iou, "edge": edge, "transparency": transparency}
    known = {name: value for name, value in given.items() if value is not None}
    return sum(WEIGHTS[name] * value for name, value in known.items()) / sum(WEIGHTS[name] for name in known)


def iou(matte: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of the two masks at alpha 0.5; 100 where both are empty."""
    one, other = matte > 0.5, truth > 0.5
    union = np.count_nonzero(one | other)
    return 100.0 * np.count_nonzero(one & other) / union if union else 100.0


def edge(matte: np.ndarray, truth: np.ndarray) -> float | None:
    """Geometric mean of the accuracy of alpha in a band around the true boundary and of the boundary F measure.

    None where the truth has no boundary inside the picture.
    """
    true_edge = boundary(truth > 0.5)
    if not true_edge.any():
        return None
    distance = ndimage.distance_transform_edt(~true_edge)
    band = distance <= band_width(truth.shape)
    own_edge = boundary(matte > 0.5)
    if not own_edge.any():
        return 0.0
    reach = max(TOLERANCE_PIXELS, TOLERANCE * math.hypot(*truth.shape))
    precision = float(np.mean(distance[own_edge] <= reach))
    recall = float(np.mean(ndimage.distance_transform_edt(~own_edge)[true_edge] <= reach))
    if precision + recall == 0:
        return 0.0
    f = 2 * precision * recall / (precision + recall)
    return 100.0 * float(np.sqrt(accuracy(matte[band], truth[band]) * f))


def band_width(shape: tuple[int, ...]) -> float:
    """Half the width of the band around a boundary, in pixels."""
    return max(BAND_PIXELS, BAND * math.hypot(*shape))


def transparency(matte: np.ndarray, truth: np.ndarray) -> float | None:
    """Accuracy of alpha on the truly semi-transparent parts; None where there are none."""
    soft = semi_transparent(truth)
    if soft.mean() < SOFT_SHARE:
        return None
    return 100.0 * accuracy(matte[soft], truth[soft])


def accuracy(matte: np.ndarray, truth: np.ndarray) -> float:
    """One minus the error's share of the largest error that was possible: 0 to 1.

    The largest possible error of a pixel is max(truth, 1 - truth). Against it, glass of alpha 0.5 that comes out solid or is
    gone counts as all wrong, where a plain mean of differences would still give half the marks.
    """
    possible = np.maximum(truth, 1 - truth).sum(dtype=np.float64)
    return 1.0 - float(np.abs(matte - truth).sum(dtype=np.float64) / possible)


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask with a neighbour outside it, up, down, left or right; the picture's border is no boundary."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def semi_transparent(truth: np.ndarray) -> np.ndarray:
    """Where the truth is soft over more than the width of an edge: bool (H, W).

    A morphological opening by a square takes away what is soft only because an edge is antialiased.
    """
    soft = (truth > SOFT[0]) & (truth < SOFT[1])
    side = 2 * max(1, round(SOFT_WIDTH / 2 * math.hypot(*truth.shape))) + 1
    return _opening(soft, side)


def _opening(mask: np.ndarray, side: int) -> np.ndarray:
    """Morphological opening by a square, as two running minima and maxima: any side at the same price."""
    low = ndimage.minimum_filter(mask.view(np.uint8), side, mode="constant", cval=0)
    return ndimage.maximum_filter(low, side, mode="constant", cval=0).view(bool)
