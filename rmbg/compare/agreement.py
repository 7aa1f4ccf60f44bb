"""Agreement between cutouts of one photo."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from rmbg.billing.quote import monthly
from rmbg.compare.comparison import Outcome
from rmbg.metrics.quality import SOFT, band_width, boundary, iou

#: Colors of the difference map: pixels that only the first cutout keeps, and pixels that only the second keeps.
FIRST_COLOR, SECOND_COLOR = (255, 92, 60), (48, 140, 255)

#: Weights of red, green and blue in the luma (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def difference(first: np.ndarray, second: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Map of the differences between two mattes: the photo in light gray, differences in `FIRST_COLOR` and `SECOND_COLOR`.

    Parameters
    ----------
    first, second : float arrays (H, W)
        Alpha in [0, 1].
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    uint8 array (H, W, 3)
    """
    gray = 150 + 0.35 * (rgb @ LUMA)[..., None]
    signed = (first - second)[..., None]
    color = np.where(signed > 0, np.array(FIRST_COLOR, np.float32), np.array(SECOND_COLOR, np.float32))
    # Most differences are small ones along edges; the square root makes them visible.
    strength = np.sqrt(np.abs(signed))
    return (gray + strength * (color - gray) + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Agreement:
    """A row of the comparison's table. All figures are None for a provider that failed.

    Attributes
    ----------
    outcome : Outcome
    usd_100000 : Decimal or None
        Cost of 100,000 pictures in US dollars; None if unknown.
    iou : float or None
        Intersection over union with the reference's mask, 0 to 100; None without a reference.
    edge_difference : float or None
        Mean absolute difference of alpha from the reference in the band around the reference's boundary, 0 to 100; None
        without a reference or a boundary.
    soft : float or None
        Share of pixels that are neither opaque nor transparent, 0 to 100.
    """

    outcome: Outcome
    usd_100000: Decimal | None = None
    iou: float | None = None
    edge_difference: float | None = None
    soft: float | None = None

    def summary(self) -> dict[str, Any]:
        """The row as a JSON object, as in ``--json``."""
        cutout = self.outcome.cutout
        if cutout is None:
            return {"provider": self.outcome.provider, "error": self.outcome.error}
        return {
            **cutout.summary(),
            "usd_100000": None if self.usd_100000 is None else float(self.usd_100000),
            "iou": self.iou,
            "edge_difference": self.edge_difference,
            "soft": self.soft,
        }


#: Function that returns the matte of an outcome, float (H, W) in [0, 1]; None if there is none.
MatteOf = Callable[[Outcome], np.ndarray | None]


def own_matte(outcome: Outcome) -> np.ndarray | None:
    """Matte of the outcome's cutout; None for a provider that failed."""
    return None if outcome.cutout is None else outcome.cutout.matte


def agreement(outcomes: Sequence[Outcome], reference: str, matte_of: MatteOf = own_matte) -> list[Agreement]:
    """Agreement of each outcome with that of the provider `reference`, in the same order.

    Besides that of the reference, one matte at a time is in memory.
    """
    references = (matte_of(outcome) for outcome in outcomes if outcome.provider == reference)
    reference_matte = next(references, None)
    band = None if reference_matte is None else edge_band(reference_matte)
    mattes = (reference_matte if outcome.provider == reference else matte_of(outcome) for outcome in outcomes)
    return [_row(outcome, matte, reference_matte, band) for outcome, matte in zip(outcomes, mattes, strict=True)]


def consensus(outcomes: Sequence[Outcome], matte_of: MatteOf = own_matte) -> dict[str, float]:
    """Mean IoU of each cutout with the others, 0 to 100, by provider id; empty for fewer than two cutouts.

    It is an estimate of quality without a reference: a result that differs from all others is likely, but not certain, to be
    the worse one.
    """
    mattes = ((outcome.provider, matte_of(outcome)) for outcome in outcomes)
    masks = {name: np.packbits(matte > 0.5) for name, matte in mattes if matte is not None}
    if len(masks) < 2:
        return {}
    others = len(masks) - 1
    return {name: sum(_packed_iou(mask, masks[o]) for o in masks if o != name) / others for name, mask in masks.items()}


def _packed_iou(first: np.ndarray, second: np.ndarray) -> float:
    """`iou` of masks with eight pixels a byte."""
    union = int(np.bitwise_count(first | second).sum())
    return 100.0 * int(np.bitwise_count(first & second).sum()) / union if union else 100.0


def _row(outcome: Outcome, matte: np.ndarray | None, reference_matte: np.ndarray | None, band: np.ndarray | None) -> Agreement:
    usd = None if outcome.cutout is None else monthly(outcome.cutout.cost)
    if matte is None:
        return Agreement(outcome, usd)
    soft = 100 * float(((matte > SOFT[0]) & (matte < SOFT[1])).mean())
    if reference_matte is None or band is None:
        return Agreement(outcome, usd, soft=soft)
    edge_difference = 100 * float(np.abs(matte - reference_matte)[band].mean()) if band.any() else None
    return Agreement(outcome, usd, iou(matte, reference_matte), edge_difference, soft)


def edge_band(matte: np.ndarray) -> np.ndarray:
    """Pixels within the band of the edge quality around the boundary of a matte: bool (H, W)."""
    from scipy import ndimage  # deferred, as SciPy takes long to import

    edge, width = boundary(matte > 0.5), band_width(matte.shape)
    if not edge.any():
        return edge
    # The distances are computed in the bounding box of the band only.
    margin = math.ceil(width) + 1
    box = tuple(
        slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1)
        for places in (np.flatnonzero(edge.any(axis=1)), np.flatnonzero(edge.any(axis=0)))
    )
    band = np.zeros_like(edge)
    band[box] = ndimage.distance_transform_edt(~edge[box]) <= width
    return band
