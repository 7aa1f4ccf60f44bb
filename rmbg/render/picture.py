"""Rendering of a cutout's arrays to the pixels that are displayed or saved."""

from __future__ import annotations

from typing import Literal

import numpy as np

from rmbg.images.blending import blend, cut_out
from rmbg.matting.matte import bounding_box, to_bytes
from rmbg.render.backgrounds import TRANSPARENT, Background, paint

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

    Returns
    -------
    uint8 array
        (H, W, 4) for a cutout on a transparent background and for a photo with alpha, (H, W) for a mask, (H, W, 3) otherwise.
    """
    if view == "mask":
        pixels = to_bytes(matte)
    elif view == "original":
        pixels = rgb if alpha is None else cut_out(rgb, alpha)
    else:
        pixels = compose(foreground, matte, background, rgb, alpha)
    return pixels if crop is None else pixels[bounding_box(matte, margin=crop)]


def compose(
    foreground: np.ndarray,
    matte: np.ndarray,
    background: Background,
    rgb: np.ndarray,
    alpha: np.ndarray | None = None,
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

    Returns
    -------
    uint8 array (H, W, 4) for a transparent background, (H, W, 3) otherwise
        Blended in sRGB bytes, exact to half a level.
    """
    if background.kind == "transparent":
        return cut_out(foreground, to_bytes(matte))
    return blend(foreground, matte, paint(background, rgb, matte, foreground, alpha))
