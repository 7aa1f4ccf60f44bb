"""Copies of cutouts and pictures at screen size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.images.downscale import downscale_weighted
from rmbg.images.shrink import shrink_photo
from rmbg.matting.matte import resize

#: Longest side of a preview, in pixels: sharp on a large screen, and rendered in a few milliseconds.
PREVIEW_SIDE = 1200


def shrink(cutout: Cutout, side: int) -> Cutout:
    """Downscale a cutout to at most `side` pixels on its longer side; returns the same cutout if it is not larger."""
    scale = side / max(cutout.width, cutout.height)
    if scale >= 1:
        return cutout
    width, height = max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))
    return replace(
        cutout,
        photo=shrink_photo(cutout.photo, side),
        matte=resize(cutout.matte, height, width),
        foreground=downscale_weighted(cutout.foreground, cutout.matte, width, height),
    )


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """Downscale pixels to at most `side` pixels on their longer side."""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    return image
