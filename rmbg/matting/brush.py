"""Coverage of the pixels of a tile by a stroke of a round brush with a soft edge."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from rmbg.matting.strokes import Stroke

#: Radius in pixels above which coverage is computed on a coarser grid and interpolated; the ramp has at least 7 of its steps.
FINE_RADIUS = 24.0

#: Cells that are computed at once, which fit into the processor's cache.
CHUNK = 32_768


class Brush:
    """A stroke as line segments, on a grid whose cells have a side of `step` pixels."""

    def __init__(self, stroke: Stroke) -> None:
        self.keeps, self.radius, self.reach = stroke.mode == "keep", stroke.radius, stroke.reach
        self.ramp = stroke.ramp
        corners = np.asarray(stroke.points, dtype=np.float64)
        if len(corners) == 1:
            corners = np.repeat(corners, 2, axis=0)
        self.starts, self.ends = corners[:-1], corners[1:]
        self.step = max(1, int(self.radius / FINE_RADIUS))

    def coverage(self, left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Covered pixels of a tile: their indices in row-major order, and float32 coverage in (0, 1]; None without one."""
        step, size = self.step, (right - left, bottom - top)
        margin = step if step > 1 else 0  # one more cell at each side, for the interpolation
        low, high = np.array([left, top]) - margin, np.array([right, bottom]) + margin
        segments = _clipped(self.starts, self.ends, low - self.reach, high + self.reach)
        if segments is None:
            return None
        starts, ends = ((corners - low) / step for corners in segments)
        cells = [-(-(last - first) // step) for first, last in zip(low, high, strict=True)]
        squared = np.full((cells[1], cells[0]), np.inf, np.float32)
        steep = np.abs(ends - starts)[:, 1] > np.abs(ends - starts)[:, 0]
        _draw(squared, starts[~steep], ends[~steep], self.reach / step)
        _draw(squared.T, starts[steep, ::-1], ends[steep, ::-1], self.reach / step)
        inside = np.flatnonzero(squared < (self.reach / step) ** 2)
        if not inside.size:
            return None
        distance = np.sqrt(squared.ravel()[inside]) * np.float32(step)
        covered = np.clip((np.float32(self.radius) - distance) / np.float32(self.ramp) + np.float32(0.5), 0, 1)
        if step == 1:
            return inside, covered
        squared.fill(0)
        squared.ravel()[inside] = covered
        box = 1, 1, 1 + size[0] / step, 1 + size[1] / step
        enlarged = np.asarray(Image.fromarray(squared).resize(size, Image.Resampling.BILINEAR, box=box)).ravel()
        inside = np.flatnonzero(enlarged)
        return (inside, enlarged[inside]) if inside.size else None


def _clipped(starts: np.ndarray, ends: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Parts of segments inside a box, float64 (n, 2) each; None if all are outside.

    Y.-D. Liang and B. A. Barsky, "A New Concept and Method for Line Clipping", ACM Transactions on Graphics 3(1), 1984.
    """
    near = (np.minimum(starts, ends) < high).all(axis=1) & (np.maximum(starts, ends) > low).all(axis=1)
    if not near.any():
        return None
    starts, ends = starts[near], ends[near]
    direction = ends - starts
    moving = direction != 0
    divisor = np.where(moving, direction, 1)
    bounds = np.sort([(low - starts) / divisor, (high - starts) / divisor], axis=0)
    first = np.where(moving, bounds[0], 0).max(axis=1, initial=0)[:, None]
    last = np.where(moving, bounds[1], 1).min(axis=1, initial=1)[:, None]
    inside = (first <= last).ravel()
    if not inside.any():
        return None
    return (starts + first * direction)[inside], (starts + last * direction)[inside]


def _draw(squared: np.ndarray, starts: np.ndarray, ends: np.ndarray, reach: float) -> None:
    """Lower squared distances of cells to those from segments, as far as they are below `reach`.

    Parameters
    ----------
    squared : float32 array (h, w)
        Changed in place.
    starts, ends : float64 arrays (n, 2)
        x and y of segments whose slope is at most one, in cells; the center of the first cell is (0.5, 0.5).
    reach : float
        In cells.
    """
    height, width = squared.shape
    if not len(starts):
        return
    swap = starts[:, 0] > ends[:, 0]
    starts, ends = np.where(swap[:, None], ends, starts), np.where(swap[:, None], starts, ends)
    run, rise = (ends - starts).T
    slope = np.divide(rise, run, out=np.zeros_like(run), where=run > 0)
    # Each segment covers columns, and in each column rows within `half` of its line.
    half = reach * np.sqrt(1 + slope**2)
    rows = min(height, math.ceil(2 * half.max()) + 1)
    firsts = np.clip(np.ceil(starts[:, 0] - reach - 0.5), 0, width).astype(np.intp)
    counts = np.clip(np.floor(ends[:, 0] + reach - 0.5) + 1, 0, width).astype(np.intp) - firsts
    counts = np.maximum(counts, 0)
    segment = np.repeat(np.arange(len(starts)), counts)
    column = np.arange(segment.size) - np.repeat(np.cumsum(counts) - counts - firsts, counts)
    flat = squared.reshape(-1) if squared.flags.c_contiguous else squared.T.reshape(-1)
    row_step, column_step = (stride // squared.itemsize for stride in squared.strides)
    square = np.maximum(run**2 + rise**2, 1e-12)
    for begin in range(0, segment.size, max(1, CHUNK // rows)):
        some = slice(begin, begin + max(1, CHUNK // rows))
        s, c = segment[some], column[some]
        across = c + 0.5 - starts[s, 0]
        middle = starts[s, 1] + np.clip(across, 0, run[s]) * slope[s]
        top = np.clip(np.ceil(middle - half[s] - 0.5), 0, height - rows).astype(np.intp)
        down = (top + 0.5 - starts[s, 1]).astype(np.float32)[:, None] + np.arange(rows, dtype=np.float32)
        dx, dy = (value[s].astype(np.float32)[:, None] for value in (run, rise))
        position = down * (rise[s] / square[s]).astype(np.float32)[:, None]
        position += (across * run[s] / square[s]).astype(np.float32)[:, None]
        np.clip(position, 0, 1, out=position)
        down -= position * dy
        position *= -dx
        position += across.astype(np.float32)[:, None]
        down *= down
        position *= position
        down += position
        cells = (top * row_step + c * column_step)[:, None] + np.arange(rows) * row_step
        np.minimum.at(flat, cells.ravel(), down.ravel())
