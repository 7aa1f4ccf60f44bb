"""Notation of lengths and of lists of values, which the options of a rendering share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from rmbg.errors import OptionError, printable

_LENGTH = re.compile(r"([-+]?[0-9]{0,6}(?:\.[0-9]{0,6})?)\s*(%|px)?", re.ASCII)


@dataclass(frozen=True)
class Length:
    """A length in pixels, or in percent of a reference length that the user of this class chooses."""

    value: float
    percent: bool = False

    def pixels(self, reference: float) -> float:
        """Return this length in pixels; `reference` is 100 percent."""
        return self.value * reference / 100 if self.percent else self.value

    def __str__(self) -> str:
        return f"{self.value:g}{'%' if self.percent else 'px'}"


def parse_length(text: str, what: str, low: float = 0, *, most_percent: float = 100, most_pixels: float = 10_000) -> Length:
    """Parse ``5%``, ``40px`` or ``40``.

    Parameters
    ----------
    text : str
    what : str
        Name of the length for the error message, for example ``The padding``.
    low : float
        Minimum; 0, or -1 for lengths that may be negative, whose minimum is the negative maximum.
    most_percent, most_pixels : float
        Maximum in either unit.

    Raises
    ------
    OptionError
        If the text has another form or the length is out of range.
    """
    match = _LENGTH.fullmatch(text.strip())
    number, unit = match.groups() if match else ("", None)
    value, percent = parse_number(number), unit == "%"
    high = most_percent if percent else most_pixels
    if not (0 if low >= 0 else -high) <= value <= high:
        signed = "-" if low < 0 else ""
        wanted = f"such as 5% or 40px, at most {signed and 'plus or minus '}{most_percent:g}% or {most_pixels:,.0f}px"
        raise OptionError(f"{what} is {printable(text, 40)!r}; it must be a length {wanted}.")
    return Length(value, percent)


def parse_number(text: str) -> float:
    """Return a number; NaN, which is in no range, for another text."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def parse_percent(text: str, what: str, low: float, high: float) -> float:
    """Parse a number of percent, with or without the sign; raises OptionError unless it is in [`low`, `high`]."""
    value = parse_number(text.strip().removesuffix("%"))
    if not low <= value <= high:
        raise OptionError(f"{what} is {printable(text, 40)!r}; it must be a number of percent from {low:g} to {high:g}.")
    return value


def parse_pair(text: str, what: str, form: str, low: float, high: float) -> tuple[float, float]:
    """Parse ``X,Y`` in percent, each in [`low`, `high`]; raises OptionError with the notation `form` for other texts."""
    parts = split_list(text)
    if len(parts) != 2:
        raise OptionError(f"{what} is {printable(text, 40)!r}; it must be {form}.")
    x, y = (parse_percent(part, what, low, high) for part in parts)
    return x, y


def split_list(text: str) -> list[str]:
    """Split a list at its commas; those inside of ``rgb(...)`` separate channels."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
