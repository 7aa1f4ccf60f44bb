"""Parameters of a result, which ``/remove_background`` and ``/batch`` share; they have the names of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rmbg.batch.recipe import Recipe
from rmbg.errors import OptionError
from rmbg.images import encode
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.providers import find
from rmbg.remove import check_alpha_matting
from rmbg.render.backgrounds import Background, parse_background, picture, place_picture
from rmbg.render.canvas import preset_background
from rmbg.render.finishing import Finishing
from rmbg.settings import Settings
from rmbg.ui.api.endpoint import FileParameter, Parameter
from rmbg.ui.components.photo_input import photo_input

#: Parameters of the first version, in their order.
FIRST = (
    Parameter("provider", "auto", "Id of a provider, see list_providers; auto is the best free one that is ready."),
    Parameter(
        "background",
        "transparent",
        "transparent, a color such as #ff8800, blur, or gradient:#TOP,#BOTTOM[,ANGLE]; "
        "empty for the color that the canvas prescribes.",
    ),
    Parameter("mask_only", False, "Return the mask, white on black, instead of the cutout."),
    Parameter("format", "png", "png, webp, webp-lossy, jpeg or avif."),
)

FINISHING = (
    Parameter(
        "canvas",
        "",
        "WIDTHxHEIGHT in pixels or a preset such as square, amazon or passport, into which the subject is fitted; "
        "empty for the size of the picture.",
    ),
    Parameter("padding", "", "Space around the subject on the canvas, such as 5% or 40px."),
    Parameter("shadow", "", "Drop shadow: soft, or X,Y,BLUR,OPACITY[,COLOR] such as 0,4%,3%,40."),
    Parameter("contact_shadow", "", "Shadow on the ground: soft, or OPACITY[,BLUR[,COLOR]]."),
    Parameter("outline", "", "Line around the subject: WIDTH[,COLOR], such as 8px,#ffffff."),
)

EDGES = (
    Parameter("largest", False, "Keep the largest region of the mask only."),
    Parameter("specks", 0, "Remove regions of fewer pixels than this."),
    Parameter("holes", 0, "Fill holes of fewer pixels than this."),
    Parameter("smooth", 0.0, "Straighten a jagged outline, 0 to 50 pixels."),
    Parameter("shift", 0.0, "Move the edge outward, or inward if negative, -50 to 50 pixels."),
    Parameter("feather", 0.0, "Soften the edge, 0 to 100 pixels."),
    Parameter("invert", False, "Keep the background and remove the subject."),
)

FURTHER: tuple[Parameter | FileParameter, ...] = (
    Parameter("quality", encode.QUALITY, "Quality of the lossy formats, 1 to 100."),
    Parameter("crop", None, "Crop to the subject, with a margin of 0 to 2 times its longer side; by default none."),
    Parameter("scale", "", "Size of the subject on the canvas in percent of the fitted one."),
    Parameter("position", "", "Shift of the subject in percent of the canvas: X,Y."),
    FileParameter(
        "background_picture",
        lambda: photo_input(label="background_picture"),
        "Picture as background, given as the image is, instead of background.",
        required=False,
    ),
    Parameter("background_fit", "", "cover or contain, for a picture as background."),
    Parameter("background_position", "", "Place of a picture as background in percent: X,Y."),
    Parameter(
        "alpha_matting",
        "",
        "closed-form or vitmatte, to compute the edge of a coarse mask from the picture's colors; seconds a megapixel.",
    ),
    Parameter("alpha_matting_foreground_threshold", 240, "Mask level above which a pixel is foreground, 1 to 255."),
    Parameter("alpha_matting_background_threshold", 10, "Mask level below which a pixel is background, 1 to 255."),
    Parameter("alpha_matting_erode_size", 10, "Width of the uncertain band, 1 to 255 pixels at 1024 pixels."),
    Parameter("options", "", 'Options of the provider as a JSON object, such as {"threshold": 0.8}; see list_providers.'),
)


def parse_recipe(values: Mapping[str, Any], settings: Settings) -> Recipe:
    """Return provider, options and rendering of a call.

    Parameters
    ----------
    values : mapping of str to Any
        Values of all parameters of this module; an empty number stands for the default.
    settings : Settings

    Raises
    ------
    OptionError
        If a value is invalid.
    """
    values = {**values, **{p.name: p.default for p in _PARAMETERS if values[p.name] is None}}
    options = parse_options(values["options"])
    provider = find(values["provider"], settings, options)
    finishing = Finishing.parse(
        **{name: values[name] for name in ("canvas", "padding", "scale", "position", "shadow", "contact_shadow", "outline")}
    )
    finishing.check_crop(values["crop"])
    encode.check_quality(values["quality"])
    alpha_matting = _alpha_matting(values)
    check_alpha_matting(alpha_matting, settings)
    return Recipe(
        provider,
        provider.info.parse_options(options),
        encode.format_named(values["format"]),
        _background(values, settings),
        "mask" if values["mask_only"] else "cutout",
        values["crop"],
        values["quality"],
        EdgeSettings(**{name: values[name] for name in asdict(UNCHANGED)}),
        alpha_matting,
        finishing,
    )


def _alpha_matting(values: Mapping[str, Any]) -> AlphaMatting | None:
    method = values["alpha_matting"].strip()
    levels = {name: values[f"alpha_matting_{name}"] for name in ("foreground_threshold", "background_threshold", "erode_size")}
    return AlphaMatting(**levels, method=method) if method else None


def parse_options(text: str) -> dict[str, Any]:
    """Parse the options of a provider, a JSON object; raises OptionError if the text is none."""
    try:
        options = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise OptionError('options is not a JSON object. Write it like {"threshold": 0.8}.')
    return options


def _background(values: Mapping[str, Any], settings: Settings) -> Background:
    color = preset_background(values["canvas"])
    if values["background_picture"] is not None:
        if values["background"] not in ("", "transparent"):
            raise OptionError("Both background and background_picture are given. Use one of them.")
        background = picture(values["background_picture"].path, settings=settings)
    elif not values["background"].strip() and color is not None:
        background = Background("color", (color,))
    else:
        # A path would give callers read access to pictures on the server's disk.
        background = parse_background(values["background"], paths=False)
    return place_picture(background, values["background_fit"], values["background_position"])


_PARAMETERS = [p for p in (*FIRST, *FINISHING, *EDGES, *FURTHER) if isinstance(p, Parameter)]
