"""Retouching of a cutout by brush strokes that keep or erase parts of the photo.

A stroke is a polyline in pixels of the photo, drawn by a round brush with a soft edge: coverage falls from 1 to 0 over a ramp
around the radius. Strokes are composited in their order over the cutout (T. Porter and T. Duff, "Compositing Digital Images",
SIGGRAPH 1984): ``keep`` draws the photo over it, ``erase`` takes the coverage away.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from rmbg.errors import OptionError, printable
from rmbg.matting.matte import tiles

Mode = Literal["keep", "erase"]

#: Width of the ramp of coverage as a fraction of the radius, and its least width in pixels.
SOFTNESS, LEAST_RAMP = 0.3, 1.0

#: Smallest radius of a stroke in pixels. The largest is the longer side of the photo.
MIN_RADIUS = 0.5

#: Points of a stroke; strokes and points of one cutout.
MAX_POINTS, MAX_STROKES, MAX_TOTAL_POINTS = 250, 400, 20_000

#: Area that all strokes may paint together, in areas of the photo.
MAX_COVERAGE = 16

#: Radius in pixels above which coverage is computed on a coarser grid and interpolated; the ramp has at least 7 of its steps.
FINE_RADIUS = 24.0

#: Side of a tile in pixels.
TILE = 512


@dataclass(frozen=True)
class Stroke:
    """One stroke of the brush.

    Attributes
    ----------
    mode : str
        ``keep`` restores the photo, ``erase`` makes it transparent.
    radius : float
        Distance in pixels of the photo at which coverage is one half, at least 0.5.
    points : tuple of (x, y)
        1 to 250 points in pixels of the photo. The center of the first pixel is (0.5, 0.5).

    Raises
    ------
    OptionError
        If a value is of the wrong type or out of range.
    """

    mode: Mode
    radius: float
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise OptionError(f"The mode of a stroke is {printable(repr(self.mode), 40)}; it must be keep or erase.")
        if not _is_number(self.radius) or not MIN_RADIUS <= self.radius < math.inf:
            raise OptionError(f"The radius of a stroke must be a number of pixels from {MIN_RADIUS:g}.")
        if not 1 <= len(self.points) <= MAX_POINTS:
            raise OptionError(f"A stroke has {len(self.points):,} points; it must have 1 to {MAX_POINTS}.")
        if not all(len(point) == 2 and all(_is_number(v) and math.isfinite(v) for v in point) for point in self.points):
            raise OptionError("The points of a stroke must be pairs of finite numbers.")

    def transformed(self, scale: float = 1.0, left: float = 0.0, top: float = 0.0) -> Stroke:
        """Return this stroke on a photo that is cropped at (`left`, `top`) and then scaled."""
        points = tuple(((x - left) * scale, (y - top) * scale) for x, y in self.points)
        return replace(self, radius=max(self.radius * scale, MIN_RADIUS), points=points)

    @property
    def area(self) -> float:
        """Area in pixels that the stroke paints at most."""
        length = sum(math.dist(a, b) for a, b in zip(self.points, self.points[1:], strict=False))
        return 2 * self.radius * (length + 2 * self.radius)

    @property
    def reach(self) -> float:
        """Distance in pixels at which coverage ends."""
        return self.radius + _ramp(self.radius) / 2


def parse_stroke(value: Any, width: int, height: int) -> Stroke:
    """Return the stroke of a JSON object; see `to_json`.

    Parameters
    ----------
    value : JSON value
        An object with the fields ``mode``, ``radius`` and ``points``, a flat list x, y, x, y, ...
    width, height : int
        Size of the photo. Points are at most one radius outside of it.

    Raises
    ------
    OptionError
        If the value has another form, or a number is out of range.
    """
    fields = {"mode", "radius", "points"}
    if not isinstance(value, Mapping) or set(value) != fields or not isinstance(value["points"], list):
        raise OptionError("A stroke must be an object with mode, radius and points.")
    radius, numbers = value["radius"], value["points"]
    if not _is_number(radius) or not MIN_RADIUS <= radius <= max(width, height):
        raise OptionError(f"The radius of a stroke must be a number of pixels from {MIN_RADIUS:g} to {max(width, height):,}.")
    if len(numbers) % 2 or not 1 <= len(numbers) // 2 <= MAX_POINTS:
        raise OptionError(f"A stroke must have 1 to {MAX_POINTS} points.")
    for index, number in enumerate(numbers):
        limit = height if index % 2 else width
        if not _is_number(number) or not -radius <= number <= limit + radius:
            raise OptionError("A point of a stroke is not on the photo.")
    return Stroke(value["mode"], float(radius), tuple(zip(map(float, numbers[::2]), map(float, numbers[1::2]), strict=True)))


def to_json(stroke: Stroke) -> dict[str, Any]:
    """Return a stroke as the JSON object that `parse_stroke` reads."""
    return {"mode": stroke.mode, "radius": stroke.radius, "points": [number for point in stroke.points for number in point]}


def check_strokes(strokes: Sequence[Stroke], width: int, height: int) -> None:
    """Raise OptionError if all strokes on a photo of `width` x `height` together exceed a limit."""
    if len(strokes) > MAX_STROKES or sum(len(stroke.points) for stroke in strokes) > MAX_TOTAL_POINTS:
        raise OptionError(
            f"The retouching has more than {MAX_STROKES} strokes or {MAX_TOTAL_POINTS:,} points. Undo some strokes."
        )
    if sum(stroke.area for stroke in strokes) > MAX_COVERAGE * width * height + 4 * max(width, height) ** 2:
        raise OptionError("The strokes cover the photo too many times. Undo some strokes.")


def retouch(
    matte: np.ndarray,
    foreground: np.ndarray,
    rgb: np.ndarray,
    strokes: Iterable[Stroke],
    own: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Composite strokes over a cutout.

    Parameters
    ----------
    matte : float32 array (H, W)
        Alpha in [0, 1], the photo's own alpha multiplied in.
    foreground : uint8 array (H, W, 3)
        Straight colors of the cutout.
    rgb : uint8 array (H, W, 3)
        The photo.
    strokes : iterable of Stroke
        In pixels of these arrays, the first one at the bottom. Parts outside of the arrays have no effect.
    own : uint8 array (H, W), optional
        The photo's own alpha, which limits what is kept.

    Returns
    -------
    matte : float32 array (H, W)
    foreground : uint8 array (H, W, 3)
        Black where alpha is zero. Pixels without a stroke are unchanged.
    """
    height, width = matte.shape
    brushes = [_Brush(stroke) for stroke in strokes]
    new_matte, new_foreground = matte.copy(), foreground.copy()

    def fill_tile(tile: tuple[slice, slice]) -> None:
        rows, columns = tile
        weights = _weights(brushes, columns.start, rows.start, columns.stop, rows.stop)
        if weights is None:
            return
        kept, rest = weights
        if own is not None:
            kept *= own[tile].astype(np.float32) / np.float32(255)
        rest *= matte[tile]
        alpha = np.minimum(kept + rest, 1)
        total = np.maximum(kept + rest, np.float32(1e-6))[..., None]
        colors = (kept[..., None] * rgb[tile] + rest[..., None] * foreground[tile]) / total
        changed = alpha != matte[tile]
        changed |= kept > 0
        new_matte[tile][changed] = alpha[changed]
        visible = (alpha > 0)[..., None]
        new_foreground[tile][changed] = np.where(visible, colors + np.float32(0.5), 0).astype(np.uint8)[changed]

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(fill_tile, tiles(height, width, TILE)))
    return new_matte, new_foreground


class _Brush:
    """A stroke as short segments, which overlap few pixels outside of their coverage."""

    def __init__(self, stroke: Stroke) -> None:
        self.keeps, self.radius, self.reach = stroke.mode == "keep", stroke.radius, stroke.reach
        corners = np.asarray(stroke.points, dtype=np.float64)
        if len(corners) == 1:
            corners = np.repeat(corners, 2, axis=0)
        longest = max(2 * self.radius, 32.0)
        pieces = [np.linspace(a, b, max(1, math.ceil(math.dist(a, b) / longest)) + 1) for a, b in itertools.pairwise(corners)]
        self.starts = np.concatenate([piece[:-1] for piece in pieces])
        self.ends = np.concatenate([piece[1:] for piece in pieces])
        self.low = np.minimum(self.starts, self.ends) - self.reach
        self.high = np.maximum(self.starts, self.ends) + self.reach
        self.step = max(1, int(self.radius / FINE_RADIUS))  # of the grid of coverage

    def coverage(self, left: int, top: int, right: int, bottom: int) -> np.ndarray | None:
        """Coverage of the pixels of a tile, float32 (bottom - top, right - left) in [0, 1]; None if it is zero."""
        near = (self.low < (right, bottom)).all(axis=1) & (self.high > (left, top)).all(axis=1)
        if not near.any():
            return None
        step = self.step
        x, y = (_grid(start, end, step) for start, end in ((left, right), (top, bottom)))
        squared = np.full((y.size, x.size), np.inf, np.float32)
        for start, end, low, high in zip(*(each[near] for each in (self.starts, self.ends, self.low, self.high)), strict=True):
            columns = slice(*np.searchsorted(x, (low[0] - step, high[0] + step)))
            rows = slice(*np.searchsorted(y, (low[1] - step, high[1] + step)))
            window = squared[rows, columns]
            np.minimum(window, _squared_distance(x[columns], y[rows], start, end), out=window)
        distance = np.sqrt(squared, out=squared)
        covered = np.clip((np.float32(self.radius) - distance) / np.float32(_ramp(self.radius)) + np.float32(0.5), 0, 1)
        if not covered.any():
            return None
        if step > 1:
            size = right - left, bottom - top
            box = 1, 1, 1 + size[0] / step, 1 + size[1] / step
            covered = np.array(Image.fromarray(covered).resize(size, Image.Resampling.BILINEAR, box=box))
        return covered


def _weights(brushes: Sequence[_Brush], left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights of photo and cutout in a tile, float32 (h, w) each, after all strokes; None if no stroke covers it."""
    weights = None
    for brush in brushes:
        covered = brush.coverage(left, top, right, bottom)
        if covered is None:
            continue
        if weights is None:
            weights = np.zeros_like(covered), np.ones_like(covered)
        rest = 1 - covered
        for plane in weights:
            plane *= rest
        if brush.keeps:
            np.add(weights[0], covered, out=weights[0])
    return weights


def _squared_distance(x: np.ndarray, y: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Squared distance of grid points from a segment: float32 (y.size, x.size)."""
    dx, dy = (float(value) for value in end - start)
    length = dx * dx + dy * dy
    across, down = x - np.float32(start[0]), (y - np.float32(start[1]))[:, None]
    if length == 0:
        return across * across + down * down
    position = np.clip((across * np.float32(dx) + down * np.float32(dy)) / np.float32(length), 0, 1)
    return (across - position * np.float32(dx)) ** 2 + (down - position * np.float32(dy)) ** 2


def _grid(start: int, end: int, step: int) -> np.ndarray:
    """Coordinates of the centers of cells of `step` pixels from `start` to `end`, with one more at either end if `step` > 1."""
    margin = step if step > 1 else 0
    return np.arange(start - margin, end + margin, step, dtype=np.float32) + np.float32(step / 2)


def _ramp(radius: float) -> float:
    """Width of the soft edge in pixels."""
    return max(LEAST_RAMP, SOFTNESS * radius)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
