"""Settings of the edge: clean-up of a matte and alpha matting."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from rmbg.errors import OptionError, printable

#: Values of ``AlphaMatting.method``.
METHODS = ("closed-form", "vitmatte")

#: Range of each numeric setting and its unit.
RANGES: dict[str, tuple[float, float, str]] = {
    "specks": (0, 100_000_000, "pixels"),
    "holes": (0, 100_000_000, "pixels"),
    "smooth": (0, 50, "pixels"),
    "shift": (-50, 50, "pixels"),
    "feather": (0, 100, "pixels"),
    "foreground_threshold": (1, 255, "levels"),
    "background_threshold": (1, 255, "levels"),
    "erode_size": (1, 255, "pixels"),
}


class _Settings:
    """Validation and JSON form that both classes share."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            object.__setattr__(self, field.name, _checked(field.name, getattr(self, field.name), field.default))

    def changed(self) -> dict[str, Any]:
        """Settings that differ from their defaults, as a JSON object."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, (value, default) in values.items() if value != default}


@dataclass(frozen=True)
class EdgeSettings(_Settings):
    """Clean-up of a matte, in the order of the attributes; by default nothing is changed.

    Attributes
    ----------
    largest : bool
        Keep the largest region only.
    specks : int
        Remove regions of fewer pixels.
    holes : int
        Fill holes of fewer pixels.
    smooth : float
        Straighten a jagged outline; standard deviation in pixels, 0 to 50. Soft edges and translucent parts stay soft.
    shift : float
        Move the edge outward by this number of pixels, or inward if negative; -50 to 50.
    feather : float
        Soften the edge by a Gaussian of this standard deviation in pixels, 0 to 100.
    invert : bool
        Keep the background and remove the subject.

    Raises
    ------
    OptionError
        If a value is of the wrong type or out of range.
    """

    largest: bool = False
    specks: int = 0
    holes: int = 0
    smooth: float = 0.0
    shift: float = 0.0
    feather: float = 0.0
    invert: bool = False


@dataclass(frozen=True)
class AlphaMatting(_Settings):
    """Alpha matting with the parameters of rembg and Runware.

    Attributes
    ----------
    foreground_threshold : int
        Level of 8 bits above which a matte is known foreground, 1 to 255.
    background_threshold : int
        Level below which it is known background, 1 to 255.
    erode_size : int
        Width of the unknown band, 1 to 255: pixels on a photo of 1024 pixels; it grows with larger photos.
    method : str
        ``closed-form``, or ``vitmatte`` for a network whose weights are downloaded on first use.

    Raises
    ------
    OptionError
        If a value is of the wrong type or out of range, or the thresholds are in the wrong order.
    """

    foreground_threshold: int = 240
    background_threshold: int = 10
    erode_size: int = 10
    method: str = "closed-form"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.background_threshold >= self.foreground_threshold:
            raise OptionError(
                f"background_threshold is {self.background_threshold}; it must be less than foreground_threshold, "
                f"which is {self.foreground_threshold}."
            )


def _checked(name: str, value: Any, default: Any) -> Any:
    """Return a value as the type of its default, or raise OptionError."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise OptionError(f"{name} is {printable(repr(value), 40)}; it must be true or false.")
        return value
    if isinstance(default, str):
        if value not in METHODS:
            raise OptionError(f"{name} is {printable(repr(value), 40)}; it must be one of {', '.join(METHODS)}.")
        return value
    low, high, unit = RANGES[name]
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    whole = isinstance(default, int)
    if not low <= number <= high or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise OptionError(f"{name} is {printable(repr(value), 40)}; it must be {kind} of {unit} from {low:,} to {high:,}.")
    return type(default)(number)


#: Settings that change nothing.
UNCHANGED = EdgeSettings()
