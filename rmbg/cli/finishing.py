"""Options of the finishing, which ``remove`` and ``batch`` share."""

from __future__ import annotations

import argparse

from rmbg.render.backgrounds import Background, parse_background, place_picture
from rmbg.render.canvas import PRESETS, preset_background
from rmbg.render.finishing import Finishing
from rmbg.settings import Settings

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
