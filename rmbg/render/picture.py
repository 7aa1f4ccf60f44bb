"""Rendering of a cutout's arrays to the pixels that are displayed or saved."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rmbg.images.pixels import blend, cut_out
from rmbg.matting.matte import bounding_box, to_bytes
from rmbg.render.backgrounds import TRANSPARENT, Background, blurred, paint
from rmbg.render.canvas import place, place_photo, place_subject
from rmbg.render.finishing import UNFINISHED, Finishing, composite, effect_layers

#: Side of a square in pixels, and its two gray levels.
SQUARE, LEVELS = 8, (236, 198)


def checkerboard(height: int, width: int, square: int = SQUARE) -> np.ndarray:
    """Paint a checkerboard: uint8 (height, width, 3)."""
    rows, columns = np.arange(height) // square, np.arange(width) // square
    light = (rows[:, None] + columns[None]) % 2 == 0
    return np.repeat(np.where(light, *LEVELS).astype(np.uint8)[..., None], 3, axis=2)


View = Literal["cutout", "mask", "original"]


def render(
    rgb: np.ndarray,
    matte: np.ndarray,
    foreground: np.ndarray,
    background: Background = TRANSPARENT,
    *,
    view: View = "cutout",
    crop: float | None = None,
    alpha: np.ndarray | None = None,
    finishing: Finishing = UNFINISHED,
) -> np.ndarray:
    """Render a cutout on a background.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
        The photo.
    matte : float32 array (H, W)
        Alpha in [0, 1].
    foreground : uint8 array (H, W, 3)
        Straight colors of the subject.
    background : Background
        Behind the subject, for the view ``cutout``.
    view : str
        ``cutout``, ``mask`` (white where the subject is) or ``original``.
    crop : float, optional
        Crop to the subject with this fraction of its longer side as margin; by default nothing is cropped.
    alpha : uint8 array (H, W), optional
        The photo's own alpha, for the view ``original`` and for blurred backgrounds.
    finishing : Finishing
        Canvas, for all views; shadows and outline, for the view ``cutout``.

    Returns
    -------
    uint8 array
        (H, W, 4) for a cutout on a transparent background, for a photo with alpha and for a photo on a canvas, (H, W) for a
        mask, (H, W, 3) otherwise. With a canvas, H and W are its size.

    Raises
    ------
    OptionError
        If both `crop` and a canvas are given.
    """
    if finishing.canvas is not None:
        finishing.check_crop(crop)
        placement = place(finishing.canvas, bounding_box(matte), *matte.shape)
        if view == "original":
            return place_photo(rgb, alpha, placement)
        if background.kind == "blur" and view == "cutout":  # like a picture, since the canvas may be larger than the photo
            background = Background("image", image=blurred(rgb, matte, foreground, alpha))
        foreground, matte = place_subject(foreground, matte, placement)
        rgb, alpha = foreground, None
    if view == "mask":
        pixels = to_bytes(matte)
    elif view == "original":
        pixels = rgb if alpha is None else cut_out(rgb, alpha)
    else:
        pixels = compose(foreground, matte, background, rgb, alpha, finishing)
    return pixels if crop is None else pixels[bounding_box(matte, margin=crop)]


def compose(
    foreground: np.ndarray,
    matte: np.ndarray,
    background: Background,
    rgb: np.ndarray,
    alpha: np.ndarray | None = None,
    finishing: Finishing = UNFINISHED,
) -> np.ndarray:
    """Composite the subject over a background.

    Parameters
    ----------
    foreground : uint8 array (H, W, 3)
        Straight colors of the subject.
    matte : float32 array (H, W)
        Alpha in [0, 1].
    background : Background
    rgb : uint8 array (H, W, 3)
        The photo, for a blurred background.
    alpha : uint8 array (H, W), optional
        The photo's own alpha, for a blurred background.
    finishing : Finishing
        Shadows and outline behind the subject; its canvas is not used.

    Returns
    -------
    uint8 array (H, W, 4) for a transparent background, (H, W, 3) otherwise
        Blended in sRGB bytes, exact to half a level.
    """
    if finishing.effects:
        painted = None if background.kind == "transparent" else paint(background, rgb, matte, foreground, alpha)
        return composite([*effect_layers(finishing, matte), (foreground, matte)], painted)
    if background.kind == "transparent":
        return cut_out(foreground, to_bytes(matte))
    return blend(foreground, matte, paint(background, rgb, matte, foreground, alpha))
