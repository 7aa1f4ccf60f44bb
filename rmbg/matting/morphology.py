"""Grayscale dilation and erosion by a disc of fractional radius."""

from __future__ import annotations

import functools
import math

import numpy as np

#: Directions over which the radius of a discrete disc is averaged.
DIRECTIONS = 720


def dilate(matte: np.ndarray, radius: float) -> np.ndarray:
    """Grayscale dilation by a disc: float32 (H, W), borders repeated.

    A discrete disc exists for some radii only. The results of the two discs whose mean radii enclose `radius` are
    interpolated, so that the edge moves by fractions of a pixel and keeps its softness.
    """
    upper = 0.0
    while mean_radius(upper) < radius:
        upper += 0.5
    lower = max(0.0, upper - 0.5)
    low, high = mean_radius(lower), mean_radius(upper)
    weight = np.float32((radius - low) / (high - low)) if high > low else np.float32(0)
    smaller = _dilate(matte, lower)
    return smaller if weight == 0 else smaller + weight * (_dilate(matte, upper) - smaller)


def erode(matte: np.ndarray, radius: float) -> np.ndarray:
    """Grayscale erosion by a disc: float32 (H, W); the dual of `dilate`."""
    return 1 - dilate(1 - matte, radius)


def _half_widths(radius: float) -> list[int]:
    """Half the width of each row of a discrete disc, from its center to its last row."""
    return [int(math.sqrt(radius * radius - y * y)) for y in range(int(radius) + 1)]


@functools.cache
def mean_radius(radius: float) -> float:
    """Mean over all directions of the distance by which a discrete disc moves a straight edge."""
    widths = _half_widths(radius)
    angles = (np.arange(DIRECTIONS) + 0.5) * (math.pi / 2 / DIRECTIONS)
    reach = [x * np.cos(angles) + y * np.sin(angles) for y, x in enumerate(widths)]
    return float(np.max(reach, axis=0).mean())


def _dilate(matte: np.ndarray, radius: float) -> np.ndarray:
    """Maximum over a discrete disc, from its last row to its center, as the rows contain each other: float32 (H, W)."""
    widths = _half_widths(radius)
    reach = len(widths) - 1
    height, width = matte.shape
    padded = np.pad(matte.astype(np.float32, copy=False), reach, mode="edge")
    row_maximum = padded[:, reach : reach + width].copy()
    result = np.zeros((height, width), np.float32)
    half_width = 0
    for y in range(reach, -1, -1):
        while half_width < widths[y]:
            half_width += 1
            for left in (reach - half_width, reach + half_width):
                np.maximum(row_maximum, padded[:, left : left + width], out=row_maximum)
        for top in {reach - y, reach + y}:
            np.maximum(result, row_maximum[top : top + height], out=result)
    return result
