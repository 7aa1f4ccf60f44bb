"""Filters of the default path on NumPy: SciPy takes longer to import than all of them to run.

All functions are pure. Planes are arrays of two axes, or stacks of planes along the axes before them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np


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
        index: list[slice] = [slice(None)] * array.ndim
        index[axis] = slice(start, start + size)
        return array[tuple(index)]

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
        shifted = [_shifted(padded, offset, result.shape[axis], axis) for offset in range(len(weights))]
        combine = np.subtract if order else np.add  # kernels are symmetric, and derivatives antisymmetric
        total = shifted[radius] * weights[radius]
        pair = np.empty_like(total)
        for offset in range(1, radius + 1):
            combine(shifted[radius + offset], shifted[radius - offset], out=pair)
            pair *= weights[radius + offset]
            total += pair
        result = total
    return result


def _shifted(padded: np.ndarray, offset: int, length: int, axis: int) -> np.ndarray:
    return padded[offset : offset + length] if axis == 0 else padded[:, offset : offset + length]


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
