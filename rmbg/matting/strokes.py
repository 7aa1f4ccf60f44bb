"""Strokes of a brush: polylines in pixels of a photo, their JSON form, and the limits of all strokes together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rmbg.errors import OptionError, printable
from rmbg.message import Message

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
