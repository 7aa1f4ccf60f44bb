"""The parameters of ``/v1.0/removebg``: their validation, the OpenAPI document and the reference are made from one table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from rmbg.errors import OptionError, check_text, printable
from rmbg.images.encode import QUALITY
from rmbg.images.pixels import Color, parse_color
from rmbg.matting.edges import METHODS, RANGES, AlphaMatting, EdgeSettings
from rmbg.providers.base import Option
from rmbg.render.backgrounds import parse_background
from rmbg.render.canvas import parse_canvas
from rmbg.render.finishing import parse_contact_shadow, parse_outline, parse_shadow
from rmbg.render.notation import Length, parse_length, parse_percent


@dataclass(frozen=True)
class Parameter(Option):
    """One parameter of a request.

    Attributes
    ----------
    used : bool
        False for parameters that are accepted without effect.
    read : callable (text) -> value, or None
        Parser of a notation; raises OptionError. By default `Option.parse`.
    file : bool
        True for the content of a file, which only a multipart body has.
    """

    used: bool = True
    read: Callable[[str], Any] | None = None
    file: bool = False

    def parse(self, value: Any) -> Any:
        if self.read is None:
            return super().parse(value)
        return self.read(check_text(str(value), self.name).strip())


def parameter(name: str, default: Any, help: str, **more: Any) -> Parameter:
    """Return a parameter, whose title is its name."""
    return Parameter(name, name, default, help, **more)


def parse_bg_color(text: str) -> tuple[Color, float] | None:
    """Return color and opacity, 0 to 1, of a color name or of 3, 4, 6 or 8 hexadecimal digits; None for an empty text.

    Raises
    ------
    OptionError
        If the text is not a color.
    """
    if not text:
        return None
    digits = text.removeprefix("#")
    if not re.fullmatch("[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8}", digits):
        return parse_color(text), 1.0
    digits = digits if len(digits) > 4 else "".join(digit * 2 for digit in digits)
    return parse_color(f"#{digits[:6]}"), int(digits[6:] or "ff", 16) / 255


def parse_roi(text: str) -> tuple[Length, ...]:
    """Return left, top, right and bottom of a region; raises OptionError for another number of values."""
    parts = [parse_length(part, "roi", most_pixels=999_999) for part in text.split()]
    if len(parts) != 4:
        raise OptionError(f"roi is {printable(text, 60)!r}; it must be x1 y1 x2 y2, such as 10% 0% 90% 100%.")
    return tuple(parts)


def parse_crop_margin(text: str) -> tuple[Length, ...]:
    """Return the margins at top, right, bottom and left from one, two or four values; raises OptionError for others."""
    parts = [parse_length(part, "crop_margin", most_percent=50, most_pixels=500) for part in text.split()]
    if len(parts) not in (1, 2, 4):
        raise OptionError(f"crop_margin is {printable(text, 60)!r}; it must have one, two or four values, such as 10% 30px.")
    return tuple((parts * 4)[:4])


def parse_scale(text: str) -> float | None:
    """Return the percentage; None for ``original``."""
    return None if text == "original" else parse_percent(text, "scale", 10, 100)


def parse_position(text: str) -> tuple[float, ...] | str:
    """Return the horizontal and the vertical percentage, or ``original``, or an empty text unchanged.

    Raises
    ------
    OptionError
        If the text has another form.
    """
    if text in ("", "original"):
        return text
    parts = ["50"] if text == "center" else text.replace(",", " ").split()
    if len(parts) not in (1, 2):
        raise OptionError(f"position is {printable(text, 60)!r}; it must be original, center, or X% Y%.")
    return tuple(parse_percent(part, "position", 0, 100) for part in (parts * 2)[:2])


def _parse_padding(text: str) -> Length | None:
    return parse_length(text, "The padding", most_percent=47) if text else None


TYPES = (
    "auto",
    "person",
    "product",
    "car",
    "car_interior",
    "car_part",
    "animal",
    "transportation",
    "graphic",
    "graphics",
    "other",
)

#: Largest result of each size in pixels; sizes that are missing here have the size of the photo.
SIZES = {"preview": 250_000, "small": 250_000, "regular": 250_000, "medium": 1_500_000, "hd": 4_000_000}

EDGE_HELP = {
    "largest": "Keep the largest region of the mask only.",
    "specks": "Remove regions of fewer pixels than this.",
    "holes": "Fill holes of fewer pixels than this.",
    "smooth": "Straighten a jagged outline, in pixels.",
    "shift": "Move the edge outward, or inward if negative, in pixels.",
    "feather": "Soften the edge, in pixels.",
    "invert": "Keep the background and remove the subject.",
    "foreground_threshold": "Mask level above which a pixel is foreground.",
    "background_threshold": "Mask level below which a pixel is background.",
    "erode_size": "Width of the uncertain band, in pixels at 1024 pixels.",
}


def _edge_parameters(settings: type, prefix: str) -> list[Parameter]:
    return [
        parameter(
            f"{prefix}{field.name}",
            field.default,
            EDGE_HELP[field.name],
            **dict(zip(("minimum", "maximum"), RANGES.get(field.name, ()), strict=False)),
        )
        for field in fields(settings)
        if field.name in EDGE_HELP
    ]


PARAMETERS = (
    parameter("image_file", "", "The picture as a file.", file=True),
    parameter("image_file_b64", "", "The picture in base64."),
    parameter("image_url", "", "The picture at a public http or https URL."),
    parameter(
        "size",
        "preview",
        "Largest result: preview, small and regular 0.25 megapixels, medium 1.5, hd 4, the others the size of the picture.",
        choices=(*SIZES, "full", "auto", "4k", "50MP"),
    ),
    parameter(
        "type", "auto", "Returned in the header X-Type, where auto is other; the same network finds all types.", choices=TYPES
    ),
    parameter("type_level", "1", "none omits the header X-Type.", choices=("none", "1", "2", "latest")),
    parameter(
        "format",
        "auto",
        "auto is png for a result with transparent parts, otherwise jpg; zip has color.jpg and alpha.png.",
        choices=("auto", "png", "jpg", "webp", "zip"),
    ),
    parameter("channels", "rgba", "alpha returns the mask.", choices=("rgba", "alpha")),
    parameter("roi", "0% 0% 100% 100%", "Region that contains the subject: x1 y1 x2 y2, each in % or px.", read=parse_roi),
    parameter("crop", False, "Crop to the subject."),
    parameter(
        "crop_margin",
        "0",
        "Margin of the crop, at most 50% or 500px: one value, two (vertical, horizontal) or four (top, right, bottom, left).",
        read=parse_crop_margin,
    ),
    parameter("scale", "original", "Size of the subject, 10% to 100% of the picture. Not with crop.", read=parse_scale),
    parameter(
        "position",
        "",
        "Place of the subject: original, center, or X% Y%; by default center with scale and original without. Not with crop.",
        read=parse_position,
    ),
    parameter("add_shadow", False, "Add the shadow of the type auto."),
    parameter(
        "shadow_type",
        "none",
        "drop is a soft shadow behind the subject; auto, 3D and car are a shadow on the ground.",
        choices=("none", "auto", "drop", "3D", "car"),
    ),
    parameter("shadow_opacity", 50.0, "Opacity of the shadow in percent.", minimum=0, maximum=100),
    parameter("semitransparency", True, "All results have soft edges and translucent parts.", used=False),
    parameter(
        "bg_color",
        "",
        "Background: a color name or hexadecimal digits, also with alpha, such as 81d4fa77.",
        read=parse_bg_color,
    ),
    parameter("bg_image_url", "", "Background: a picture at a public http or https URL, scaled to cover."),
    parameter("bg_image_file", "", "Background: a picture as a file, scaled to cover.", file=True),
    parameter("rmbg_provider", "", "Id of a provider; by default that of the server."),
    parameter(
        "rmbg_background",
        "",
        "Background: a color, blur, or gradient:#TOP,#BOTTOM[,ANGLE].",
        read=partial(parse_background, paths=False),
    ),
    parameter("rmbg_canvas", "", "WIDTHxHEIGHT or a preset such as square; the subject is fitted into it.", read=parse_canvas),
    parameter("rmbg_padding", "", "Space around the subject on the canvas, such as 5% or 40px.", read=_parse_padding),
    parameter("rmbg_shadow", "", "Shadow: soft, or X,Y,BLUR,OPACITY[,COLOR] such as 0,4%,3%,40.", read=parse_shadow),
    parameter("rmbg_contact_shadow", "", "Shadow on the ground: soft, or OPACITY[,BLUR[,COLOR]].", read=parse_contact_shadow),
    parameter("rmbg_outline", "", "Line around the subject: WIDTH[,COLOR], such as 8px,#ffffff.", read=parse_outline),
    parameter("rmbg_quality", QUALITY, "Quality of jpg.", minimum=1, maximum=100),
    *_edge_parameters(EdgeSettings, "rmbg_"),
    parameter(
        "rmbg_alpha_matting",
        "none",
        "Compute the edge of a coarse mask from the picture's colors; seconds a megapixel.",
        choices=("none", *METHODS),
    ),
    *_edge_parameters(AlphaMatting, "rmbg_alpha_matting_"),
)
