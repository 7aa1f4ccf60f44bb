"""Options of the edge and of the finishing, which ``remove`` and ``batch`` share."""

from __future__ import annotations

import argparse
from dataclasses import fields
from decimal import Decimal, InvalidOperation

from rmbg.errors import OptionError, printable
from rmbg.inference.catalog import VITMATTE
from rmbg.matting.edges import METHODS, AlphaMatting, EdgeSettings
from rmbg.render.backgrounds import Background, parse_background, place_picture
from rmbg.render.canvas import PRESETS, preset_background
from rmbg.render.finishing import Finishing
from rmbg.settings import Settings


def add_edge_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of alpha matting, named as in rembg, and of the clean-up, named as the attributes of `EdgeSettings`."""
    group = parser.add_argument_group("alpha matting")
    group.add_argument("--alpha-matting", action="store_true", help="compute the edge of a coarse mask from the photo; slow")
    group.add_argument(
        "--alpha-matting-method",
        choices=METHODS,
        metavar="NAME",
        help=f"closed-form (default), or vitmatte, a network of {VITMATTE.megabytes} MB that is downloaded on first use "
        f"({VITMATTE.license})",
    )
    for name, meaning in (
        ("foreground-threshold", "mask level above which a pixel is foreground, 1 to 255 (default: 240)"),
        ("background-threshold", "mask level below which a pixel is background, 1 to 255 (default: 10)"),
        ("erode-size", "width of the uncertain band, 1 to 255 pixels on a photo of 1024 pixels (default: 10)"),
    ):
        group.add_argument(f"--alpha-matting-{name}", type=int, metavar="N", help=meaning)
    group = parser.add_argument_group("clean-up of the mask, in this order")
    group.add_argument("--largest", action="store_true", help="keep the largest region only")
    group.add_argument("--specks", type=int, default=0, metavar="N", help="remove regions of fewer than N pixels")
    group.add_argument("--holes", type=int, default=0, metavar="N", help="fill holes of fewer than N pixels")
    group.add_argument("--smooth", type=float, default=0, metavar="PX", help="straighten a jagged outline, 0 to 50 pixels")
    group.add_argument(
        "--shift", type=float, default=0, metavar="PX", help="move the edge outward, or inward if negative, -50 to 50 pixels"
    )
    group.add_argument("--feather", type=float, default=0, metavar="PX", help="soften the edge, 0 to 100 pixels")
    group.add_argument("--invert", action="store_true", help="keep the background and remove the subject")


def parse_edges(arguments: argparse.Namespace) -> EdgeSettings:
    """Return the edge settings of a command; raises OptionError if one is out of range."""
    return EdgeSettings(**{field.name: getattr(arguments, field.name) for field in fields(EdgeSettings)})


def parse_alpha_matting(arguments: argparse.Namespace) -> AlphaMatting | None:
    """Return the settings of alpha matting, or None without ``--alpha-matting``.

    Raises
    ------
    OptionError
        If a value is out of range, or given without ``--alpha-matting``.
    """
    given = {field.name: getattr(arguments, f"alpha_matting_{field.name}") for field in fields(AlphaMatting)}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not arguments.alpha_matting:
        raise OptionError(f"--alpha-matting-{next(iter(given)).replace('_', '-')} needs --alpha-matting. Add it.")
    return AlphaMatting(**given) if arguments.alpha_matting else None


# Options of the finishing, which ``remove`` and ``batch`` share.


#: Names of the options, which are the arguments of `Finishing.parse`.
NAMES = ("canvas", "padding", "scale", "position", "shadow", "contact_shadow", "outline")


def add_finishing_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of canvas, shadows and outline."""
    parser.add_argument(
        "--background-fit",
        choices=("cover", "contain"),
        help="picture as background: cover all (default), or contain it on white",
    )
    parser.add_argument(
        "--background-position", metavar="X,Y", help="place of the picture in percent: 0,0 is top left (default: 50,50)"
    )
    group = parser.add_argument_group("size of the picture, shadows and outline")
    sizes = ", ".join(PRESETS)
    group.add_argument("--canvas", default="", metavar="SIZE", help=f"fit the subject into WIDTHxHEIGHT, or {sizes}")
    group.add_argument("--padding", default="", metavar="LENGTH", help="space around the subject, 5%% or 40px")
    group.add_argument("--scale", default="", metavar="PERCENT", help="size of the subject; 100 is the fitted one")
    group.add_argument("--position", default="", metavar="X,Y", help="shift of the subject in percent of the canvas")
    group.add_argument(
        "--shadow",
        default="",
        metavar="WHAT",
        help="soft, or X,Y,BLUR,OPACITY[,COLOR] such as 0,4%%,3%%,40; lengths in percent of the subject's longer side, or px",
    )
    group.add_argument(
        "--contact-shadow", default="", metavar="WHAT", help="shadow on the ground: soft, or OPACITY[,BLUR[,COLOR]]"
    )
    group.add_argument("--outline", default="", metavar="WIDTH[,COLOR]", help="line around the subject, such as 8px,#ffffff")


def parse_finishing(arguments: argparse.Namespace) -> Finishing:
    """Return the finishing of a command; raises OptionError if an option is invalid."""
    finishing = Finishing.parse(**{name: getattr(arguments, name) for name in NAMES})
    finishing.check_crop(arguments.crop)
    return finishing


def parse_background_or_preset(arguments: argparse.Namespace, settings: Settings) -> Background:
    """Return the background of a command, by default the one that the canvas prescribes."""
    color = preset_background(arguments.canvas)
    if arguments.background is None and color is not None:
        background = Background("color", (color,))
    else:
        background = parse_background(arguments.background or "", settings=settings)
    return place_picture(background, arguments.background_fit or "", arguments.background_position or "")


def parse_amount(text: str | None, option: str, expected: str = "an amount of US dollars such as 0.50") -> Decimal | None:
    """Return the number of an option, None if it is not given; raises OptionError with what is `expected`."""
    if text is None:
        return None
    try:
        value = Decimal(text.strip().lstrip("$"))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or not 0 <= value <= 10**9:
        raise OptionError(f"{option} is {printable(text, 40)!r}; it must be {expected}.")
    return value
