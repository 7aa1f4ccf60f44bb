"""Parsing of color names and notations."""

from __future__ import annotations

import re

from PIL import ImageColor

from rmbg.errors import OptionError, printable
from rmbg.message import Message

Color = tuple[int, int, int]

#: Maximum length of a color in characters, as in Pillow.
MAX_LENGTH = 100

_NUMBER = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})%?")


def parse_color(text: str) -> Color:
    """Parse a color in CSS notation into red, green and blue, 0 to 255.

    Supported are ``#RGB``, ``#RRGGBB``, color names, and ``rgb()``, ``rgba()``, ``hsl()`` and ``hsla()`` with numbers and
    percentages, separated by commas or spaces. Alpha is ignored.

    Raises
    ------
    OptionError
        If the text is not a color.
    """
    text = str(text)
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError
        text = text.strip()
        name, bracket, arguments = text.lower().partition("(")
        values = _parse_function(name, arguments) if bracket else ImageColor.getrgb(text)
    except ValueError:
        raise OptionError(
            Message("{color} is not a color. Write it as #ff8800 or orange.", color=repr(printable(text, 60)))
        ) from None
    red, green, blue = (min(255, max(0, value)) for value in values[:3])  # CSS clamps values such as 120%
    return red, green, blue


def _parse_function(name: str, arguments: str) -> tuple[int, ...]:
    """Parse functional notation from its name and the text after the opening bracket; ValueError if it is invalid."""
    values = arguments.removesuffix(")").replace(",", " ").replace("/", " ").split()
    if not arguments.endswith(")") or len(values) not in (3, 4) or not all(map(_NUMBER.fullmatch, values)):
        raise ValueError
    if name in ("rgb", "rgba"):
        return tuple(round(float(v[:-1]) * 2.55) if v.endswith("%") else round(float(v)) for v in values[:3])
    return ImageColor.getrgb(f"{name.removesuffix('a')}({', '.join(values[:3])})")
