"""Retouching of a cutout by strokes of a brush, and masks that the user made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from rmbg.errors import OptionError, PhotoError, printable
from rmbg.images.photo import open_photo
from rmbg.matting.matte import resample, tiles
from rmbg.runtime.messages import Message
from rmbg.runtime.threads import run_parallel
from rmbg.settings import Settings

Mode = Literal["keep", "erase"]

#: Width of the ramp of coverage as a fraction of the radius, and its least width in pixels.
SOFTNESS, LEAST_RAMP = 0.3, 1.0

#: Smallest radius of a stroke in pixels. The largest is the longer side of the photo.
MIN_RADIUS = 0.5

#: Points of a stroke; strokes and points of one cutout.
MAX_POINTS, MAX_STROKES, MAX_TOTAL_POINTS = 250, 400, 20_000

#: Area that all strokes may paint together, in areas of the photo, and their length, in longer sides of the photo.
MAX_COVERAGE, MAX_LENGTH = 8, 2_000


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
        return 2 * self.radius * (self.length + 2 * self.radius)

    @property
    def length(self) -> float:
        """Length in pixels of the polyline."""
        return sum(math.dist(a, b) for a, b in zip(self.points, self.points[1:], strict=False))

    @property
    def reach(self) -> float:
        """Distance in pixels at which coverage ends."""
        return self.radius + self.ramp / 2

    @property
    def ramp(self) -> float:
        """Width of the soft edge in pixels."""
        return max(LEAST_RAMP, SOFTNESS * self.radius)


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
    if sum(stroke.length for stroke in strokes) > MAX_LENGTH * max(width, height):
        raise OptionError(Message("The strokes are too long together. Undo some strokes."))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Coverage of the pixels of a tile by a stroke of a round brush with a soft edge.


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


# Retouching of a cutout by brush strokes that keep or erase parts of the photo.


#: Side of a tile in pixels.
TILE = 512


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
    brushes = [Brush(stroke) for stroke in strokes]
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

    run_parallel(fill_tile, tiles(height, width, TILE))
    return new_matte, new_foreground


def _weights(brushes: Sequence[Brush], left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights of photo and cutout in a tile, float32 (h, w) each, after all strokes; None if no stroke covers it."""
    weights = None
    for brush in brushes:
        found = brush.coverage(left, top, right, bottom)
        if found is None:
            continue
        inside, covered = found
        if weights is None:
            size = (bottom - top) * (right - left)
            weights = np.zeros(size, np.float32), np.ones(size, np.float32)
        kept, rest = weights
        uncovered = 1 - covered
        rest[inside] *= uncovered
        kept[inside] = kept[inside] * uncovered + covered if brush.keeps else kept[inside] * uncovered
    if weights is None:
        return None
    shape = bottom - top, right - left
    return weights[0].reshape(shape), weights[1].reshape(shape)


# Reading of a mask that the user made.


#: Largest difference between the channels of a gray pixel, in levels; lossy formats change gray slightly.
GRAY_TOLERANCE = 12

#: Largest relative difference between the aspect ratios of mask and photo; masks of small networks are rounded to whole pixels.
RATIO_TOLERANCE = 0.02


def read_mask(source: Any, width: int, height: int, settings: Settings | None = None) -> np.ndarray:
    """Decode a mask and resize it to the photo's size.

    Parameters
    ----------
    source : bytes-like, path, binary file object, PIL image, data URI or Photo
        A gray picture, white where the subject is, or a picture with transparency, whose alpha is the mask.
    width, height : int
        Size of the photo.
    settings : Settings, optional
        Limits; by default those of the environment.

    Returns
    -------
    float32 array (H, W)
        In [0, 1].

    Raises
    ------
    PhotoError
        If the source is not a picture.
    OptionError
        If it has colors and no transparency, or another aspect ratio than the photo.
    """
    try:
        picture = open_photo(source, settings=settings)
    except PhotoError as error:
        raise PhotoError(Message("The mask cannot be read. {error}", error=str(error))) from None
    if abs(picture.width * height - picture.height * width) > RATIO_TOLERANCE * picture.height * width:
        raise OptionError(
            Message(
                "The mask has {mask_width} x {mask_height} pixels and the photo {width} x {height}. "
                "Give a mask with the aspect ratio of the photo.",
                mask_width=picture.width,
                mask_height=picture.height,
                width=width,
                height=height,
            )
        )
    if picture.alpha is not None:
        levels = picture.alpha
    elif int(np.ptp(picture.rgb, axis=2).max()) <= GRAY_TOLERANCE:
        levels = picture.rgb[..., 1]
    else:
        raise OptionError(
            Message("The mask has colors. Give a gray picture, white where the subject is, or one with transparency.")
        )
    matte = levels.astype(np.float32) / np.float32(255)
    return matte if matte.shape == (height, width) else resample(matte, height, width)
