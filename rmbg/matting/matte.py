"""Mattes: filters, resizing, tiles, bounding boxes, conversion to bytes, trimaps.

The filters are on NumPy, as SciPy takes longer to import than all of them to run. All functions are pure.
Planes are arrays of two axes, or stacks of planes along the axes before them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from PIL import Image

from rmbg.matting.edges import AlphaMatting
from rmbg.runtime.threads import row_strips, run_parallel


def box_mean(planes: np.ndarray, radius: int) -> np.ndarray:
    """Mean over windows of ``2 * radius + 1`` pixels a side that lie inside: float32 (..., H - 2 * radius, W - 2 * radius).

    Window sums are added up from sums of 1, 2, 4, ... neighbors, so the time grows with the logarithm of the radius.
    """
    side = 2 * radius + 1
    total = _combine(_combine(planes, side, -2, np.add), side, -1, np.add)
    total *= np.float32(1 / side**2)
    return total


def dilate(plane: np.ndarray, radius: int) -> np.ndarray:
    """Maximum over windows of ``2 * radius + 1`` pixels a side, of the type and shape of `plane`."""
    padded = np.pad(plane, radius, mode="edge")
    side = 2 * radius + 1
    return _combine(_combine(padded, side, 0, np.maximum), side, 1, np.maximum)


def _combine(values: np.ndarray, count: int, axis: int, operation: Callable[..., np.ndarray]) -> np.ndarray:
    """Combine `count` consecutive values along an axis, which becomes shorter by ``count - 1``."""
    length = values.shape[axis] - count + 1

    def part(array: np.ndarray, start: int, size: int) -> np.ndarray:
        return array.swapaxes(0, axis)[start : start + size].swapaxes(0, axis)

    result: np.ndarray | None = None
    power, width, offset = values, 1, 0  # `power` combines `width` values
    while True:
        if count & width:
            piece = part(power, offset, length)
            result = piece.copy() if result is None else operation(result, piece, out=result)
            offset += width
        if 2 * width > count:
            assert result is not None
            return result
        size = power.shape[axis] - width
        power = operation(part(power, 0, size), part(power, width, size))
        width *= 2


@functools.cache
def _kernel(sigma: float, order: int) -> np.ndarray:
    """Gaussian of four standard deviations to either side, or its first derivative: float32 (taps,)."""
    radius = int(4 * sigma + 0.5)
    position = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (position / sigma) ** 2)
    weights /= weights.sum()
    return (weights if order == 0 else weights * position / sigma**2).astype(np.float32)


def gaussian(plane: np.ndarray, sigma: float, orders: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Gaussian filter, or the first derivative along the axes whose order is 1: float32 (H, W), reflected at the borders."""
    result = plane.astype(np.float32, copy=False)
    for axis, order in enumerate(orders):
        weights = _kernel(sigma, order)
        radius = len(weights) // 2
        padded = np.pad(result, [(radius, radius) if i == axis else (0, 0) for i in range(2)], mode="symmetric")
        shifted = [padded.swapaxes(0, axis)[i : i + result.shape[axis]].swapaxes(0, axis) for i in range(len(weights))]
        combine = np.subtract if order else np.add  # kernels are symmetric, and derivatives antisymmetric
        total = shifted[radius] * weights[radius]
        pair = np.empty_like(total)
        for offset in range(1, radius + 1):
            combine(shifted[radius + offset], shifted[radius - offset], out=pair)
            pair *= weights[radius + offset]
            total += pair
        result = total
    return result


def gradient_magnitude(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Length of the gradient of a smoothed plane: float32 (H, W)."""
    return np.hypot(gaussian(plane, sigma, (1, 0)), gaussian(plane, sigma, (0, 1)))


def erode_cross(mask: np.ndarray, iterations: int) -> np.ndarray:
    """Erosion of a bool mask (H, W) by a cross of five pixels; pixels outside are False."""
    for _ in range(iterations):
        padded = np.pad(mask, 1)
        mask = mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask


def label(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the regions of a bool mask whose pixels are connected horizontally or vertically.

    Runs of pixels in a row are the nodes of a union-find structure, so the time grows with the number of runs.

    Returns
    -------
    labels : int32 array (H, W)
        0 outside of the regions.
    count : int
        Number of regions.
    """
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    runs = len(rows)
    if not runs:
        return np.zeros(mask.shape, np.int32), 0
    parents = list(range(runs))

    def root(run: int) -> int:
        while parents[run] != run:
            parents[run] = parents[parents[run]]
            run = parents[run]
        return run

    # The runs of the row above that touch a run are consecutive: positions on one line order runs by row, then by column.
    line_starts, line_ends = rows * (width + 1) + starts, rows * (width + 1) + ends
    first = np.searchsorted(line_ends, line_starts - (width + 1), side="right").tolist()
    last = np.searchsorted(line_starts, line_ends - (width + 1), side="left").tolist()
    for run in range(runs):
        for above in range(first[run], last[run]):
            a, b = root(run), root(above)
            parents[max(a, b)] = min(a, b)
    roots, numbers = np.unique([root(run) for run in range(runs)], return_inverse=True)
    changes = np.zeros((height, width + 1), np.int32)
    changes[rows, starts] += numbers + 1
    changes[rows, ends] -= numbers + 1
    return np.cumsum(changes, axis=1, dtype=np.int32)[:, :width], len(roots)


# Operations on mattes.


#: Alpha at or below the first is transparent, at or above the second opaque: half a level of 8 bits from either end.
ALPHA_MIN, ALPHA_MAX = 0.5 / 255, 254.5 / 255

#: Side of a tile in pixels: small enough for the processor's cache, large enough to keep the overhead low.
TILE = 384

#: Rows that are converted at a time.
STRIP_ROWS = 64


def resized(plane: np.ndarray, height: int, width: int, filter_: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    """Resize a plane of any values to float32 (height, width) by a filter of Pillow."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize((width, height), filter_))


def resize(matte: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a matte to float32 (height, width), bilinear, antialiased where it shrinks."""
    return np.clip(resized(matte, height, width), 0.0, 1.0)


def resample(matte: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an accurate matte to float32 (height, width): bicubic, or the mean of the covered pixels where both sides shrink.

    Constants and ramps are kept, so that translucent parts stay as they are. On accurate mattes the edge error is lower than
    that of guided upsampling, which is for mattes with misplaced edges.
    """
    shrinks = height <= matte.shape[0] and width <= matte.shape[1]
    filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    return np.clip(resized(matte, height, width, filter_), 0.0, 1.0)


def tiles(height: int, width: int, side: int = TILE) -> list[tuple[slice, slice]]:
    """Slices (rows, columns) that cover an array of shape (height, width) without overlap."""
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def widened(tile: tuple[slice, slice], margin: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of a tile with `margin` pixels around it, within the array, and those of the tile in it."""
    starts = [max(0, part.start - margin) for part in tile]
    rows, columns = (slice(start, part.stop + margin) for start, part in zip(starts, tile, strict=True))
    top, left = (slice(part.start - start, part.stop - start) for start, part in zip(starts, tile, strict=True))
    return (rows, columns), (top, left)


def sharpen_edges(matte: np.ndarray, slope: float = 2.0) -> np.ndarray:
    """Stretch alpha around one half by `slope`: float32 (H, W).

    Networks predict edges that are softer than the photo's.
    """
    return np.clip((matte - 0.5) * slope + 0.5, 0.0, 1.0).astype(np.float32)


def bounding_box(matte: np.ndarray, *, margin: float = 0.0, threshold: float = 0.05) -> tuple[slice, slice]:
    """Bounding box of the subject as (rows, columns).

    Parameters
    ----------
    matte : float array (H, W)
    margin : float
        Space around the subject as a fraction of the box's longer side; the result is clipped to the picture.
    threshold : float
        Alpha above which a pixel belongs to the subject.

    Returns
    -------
    rows, columns : slice
        The whole picture for an empty matte.
    """
    subject = matte > threshold
    rows, columns = np.flatnonzero(subject.any(axis=1)), np.flatnonzero(subject.any(axis=0))
    if rows.size == 0:
        return slice(0, matte.shape[0]), slice(0, matte.shape[1])
    pixels = round(margin * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    return _span(rows, pixels, matte.shape[0]), _span(columns, pixels, matte.shape[1])


def pixel_window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Bounding box of the True pixels of a mask, with `margin` pixels around it, as (rows, columns).

    At least one pixel must be True. The result is clipped to the picture.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return _span(rows, margin, mask.shape[0]), _span(columns, margin, mask.shape[1])


def _span(indices: np.ndarray, margin: int, length: int) -> slice:
    """From the first to the last of sorted indices, with `margin` on both sides, within `length`."""
    return slice(max(0, int(indices[0]) - margin), min(length, int(indices[-1]) + 1 + margin))


def to_bytes(matte: np.ndarray) -> np.ndarray:
    """Convert a matte to uint8 (H, W), rounded to the nearest level."""
    return _converted(matte, np.uint8, lambda alpha: alpha * np.float32(255) + np.float32(0.5))


def to_sixteen_bits(matte: np.ndarray) -> np.ndarray:
    """Convert a matte to uint16 (H, W), halves rounded down: alpha 0.5 stays outside of a mask that is binarized above it."""
    return _converted(matte, np.uint16, lambda alpha: np.ceil(alpha * np.float32(65535) - np.float32(0.5)))


def from_sixteen_bits(levels: np.ndarray) -> np.ndarray:
    """Convert the levels of `to_sixteen_bits` to a matte."""
    return np.divide(levels, np.float32(65535), dtype=np.float32)


def _converted(matte: np.ndarray, dtype: type[np.generic], convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Convert a matte in strips of rows, as new memory for intermediate arrays takes longer than the conversion."""
    result: np.ndarray = np.empty(matte.shape, dtype)

    def fill(rows: slice) -> None:
        result[rows] = convert(matte[rows])

    run_parallel(fill, row_strips(len(matte), STRIP_ROWS))
    return result


# Trimap of a matte: known foreground, known background, unknown band.


BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255

#: Longer side of a photo, in pixels, for which `AlphaMatting.erode_size` is in pixels; on larger photos it grows in proportion,
#: as the errors of a network of fixed input size do.
REFERENCE_SIDE = 1024


def make_trimap(matte: np.ndarray, settings: AlphaMatting) -> np.ndarray:
    """Trimap of a matte.

    Parameters
    ----------
    matte : float32 array (H, W)
        Alpha in [0, 1].
    settings : AlphaMatting
        Foreground and background are eroded by a square of ``erode_size``, as in rembg.

    Returns
    -------
    uint8 array (H, W)
        `BACKGROUND`, `UNKNOWN` or `FOREGROUND`.
    """
    from scipy import ndimage

    side = max(1, round(settings.erode_size * max(1.0, max(matte.shape) / REFERENCE_SIDE)))
    trimap = np.full(matte.shape, UNKNOWN, np.uint8)
    for value, known in (
        (FOREGROUND, matte * np.float32(255) > settings.foreground_threshold),
        (BACKGROUND, matte * np.float32(255) < settings.background_threshold),
    ):
        eroded = ndimage.minimum_filter(known.view(np.uint8), side, mode="nearest")
        trimap[eroded.view(bool)] = value
    return trimap
