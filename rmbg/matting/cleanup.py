"""Edits of a finished matte: small regions and holes, smooth outline, shifted and feathered edge, inversion."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from rmbg.matting.edges import EdgeSettings
from rmbg.matting.matte import tiles, widened
from rmbg.runtime.threads import run_parallel

# Grayscale dilation and erosion by a disc of fractional radius.


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


# Edits.


#: Alpha above which pixels form a region.
REGION_ALPHA = 0.05

#: Fainter pixels beside a removed region, or a filled hole, that change with it: reach in pixels.
RIM = 4

#: Side of a tile in pixels; larger than for lookups, as each tile is computed with a margin.
TILE = 512

#: Standard deviation in pixels above which a Gaussian is computed on a reduced copy.
LARGE_SIGMA = 8.0


def clean(matte: np.ndarray, edges: EdgeSettings, own: np.ndarray | None = None) -> np.ndarray:
    """Apply edge settings to a matte.

    Parameters
    ----------
    matte : float32 array (H, W)
        Alpha in [0, 1], the photo's own alpha multiplied in.
    edges : EdgeSettings
    own : uint8 array (H, W), optional
        The photo's own alpha, which limits the result.

    Returns
    -------
    float32 array (H, W)
    """
    result = keep_largest(matte) if edges.largest else matte
    steps: tuple[tuple[Callable[..., np.ndarray], float], ...] = (
        (remove_specks, edges.specks),
        (fill_holes, edges.holes),
        (smooth, edges.smooth),
        (shift, edges.shift),
        (feather, edges.feather),
    )
    for function, amount in steps:
        if amount:
            result = function(result, amount)
    limit = np.float32(1) if own is None else own.astype(np.float32) / np.float32(255)
    result = np.clip(result, np.float32(0), limit)
    return limit - result if edges.invert else result


def keep_largest(matte: np.ndarray) -> np.ndarray:
    """Remove all regions but the largest: float32 (H, W)."""
    return _remove_regions(matte, lambda areas: areas < areas.max())


def remove_specks(matte: np.ndarray, pixels: int) -> np.ndarray:
    """Remove regions of fewer than `pixels` pixels: float32 (H, W)."""
    return _remove_regions(matte, lambda areas: areas < pixels)


def _remove_regions(matte: np.ndarray, chosen: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Set regions to 0; `chosen` returns from the areas of all regions which of them."""
    from scipy import ndimage

    regions, count = ndimage.label(matte > REGION_ALPHA, structure=np.ones((3, 3)))
    removed = np.zeros(count + 1, bool)
    if count:
        removed[1:] = chosen(np.bincount(regions.ravel())[1:])
    return _replaced(matte, removed[regions], (regions == 0) & (matte > 0), 0)


def fill_holes(matte: np.ndarray, pixels: int) -> np.ndarray:
    """Set holes of fewer than `pixels` pixels to 1, with their soft rim: float32 (H, W).

    A hole is a region of alpha below one half that does not reach the border.
    """
    from scipy import ndimage

    gaps, _ = ndimage.label(matte < 0.5)
    filled = np.bincount(gaps.ravel()) < pixels
    filled[0] = False
    filled[np.concatenate([gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]])] = False
    return _replaced(matte, filled[gaps], (gaps == 0) & (matte < 1), 1)


def _replaced(matte: np.ndarray, inside: np.ndarray, rim: np.ndarray, value: float) -> np.ndarray:
    """Set the pixels `inside`, and those of the `rim` within reach, to a value: float32 (H, W)."""
    from scipy import ndimage

    result = matte.astype(np.float32, copy=True)
    if inside.any():
        result[ndimage.binary_dilation(inside, iterations=RIM, mask=inside | rim)] = value
    return result


def smooth(matte: np.ndarray, sigma: float) -> np.ndarray:
    """Straighten the outline: float32 (H, W).

    A Gaussian of standard deviation `sigma`, whose softening of hard edges is undone: alpha is stretched around the middle of
    its local range. Constants, ramps and translucent parts are kept.
    """
    from scipy import ndimage

    reach = math.ceil(2 * sigma)
    slope = np.float32(max(1.0, sigma * math.sqrt(2 * math.pi)))

    def smoothed(block: np.ndarray) -> np.ndarray:
        low = ndimage.minimum_filter(block, 2 * reach + 1, mode="nearest")
        span = ndimage.maximum_filter(block, 2 * reach + 1, mode="nearest") - low
        blurred = ndimage.gaussian_filter(block, sigma, mode="nearest")
        position = np.divide(blurred - low, span, out=np.full_like(block, 0.5), where=span > 0)
        return low + span * np.clip((position - 0.5) * slope + 0.5, 0, 1)

    return _near_edges(matte, smoothed, math.ceil(4 * sigma) + 1)


def shift(matte: np.ndarray, pixels: float) -> np.ndarray:
    """Move the edge outward by `pixels`, or inward if negative, and keep its softness: float32 (H, W)."""
    move = dilate if pixels > 0 else erode
    return _near_edges(matte, lambda block: move(block, abs(pixels)), math.ceil(abs(pixels)) + 1)


def feather(matte: np.ndarray, pixels: float) -> np.ndarray:
    """Soften the edge by a Gaussian of standard deviation `pixels`: float32 (H, W)."""
    from scipy import ndimage

    blur = functools.partial(ndimage.gaussian_filter, mode="nearest")
    if pixels <= LARGE_SIGMA:
        return _near_edges(matte, lambda block: blur(block, pixels), math.ceil(4 * pixels) + 1)
    height, width = matte.shape
    step = pixels / (LARGE_SIGMA / 2)
    small = Image.fromarray(matte.astype(np.float32, copy=False)).resize(
        (max(1, round(width / step)), max(1, round(height / step))), Image.Resampling.BOX
    )
    sigmas = pixels * small.height / height, pixels * small.width / width
    blurred = Image.fromarray(blur(np.asarray(small), sigmas))
    return np.clip(np.asarray(blurred.resize((width, height), Image.Resampling.BICUBIC)), 0, 1)


def _near_edges(matte: np.ndarray, function: Callable[[np.ndarray], np.ndarray], margin: int) -> np.ndarray:
    """Apply a filter to the tiles where the matte is not constant: float32 (H, W).

    Parameters
    ----------
    function : callable (float32 array (h, w)) -> array (h, w)
        Returns constants unchanged.
    margin : int
        Reach of the filter in pixels.
    """
    height, width = matte.shape
    result = matte.astype(np.float32, copy=True)

    def fill_tile(tile: tuple[slice, slice]) -> None:
        outer, inner = widened(tile, margin)
        block = matte[outer].astype(np.float32)
        if block.min() < block.max():
            result[tile] = function(block)[inner]

    run_parallel(fill_tile, tiles(height, width, TILE))
    return result
