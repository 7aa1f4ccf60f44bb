"""Downscaling of a photo: area averages, with alpha as the weight of colors."""

from __future__ import annotations

import numpy as np

from rmbg.images.downscale import downscale, downscale_weighted
from rmbg.images.photo import Photo


def shrink_photo(photo: Photo, side: int) -> Photo:
    """Downscale a photo to at most `side` pixels on its longer side; returns the same photo if it is not larger."""
    scale = side / max(photo.width, photo.height)
    if scale >= 1:
        return photo
    width, height = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    rgb, alpha = downscale(photo.rgb, width, height), photo.alpha
    if alpha is not None:
        weighted = downscale_weighted(photo.rgb, alpha.astype(np.float32) / np.float32(255), width, height)
        alpha = downscale(alpha, width, height)
        rgb = np.where((alpha > 0)[..., None], weighted, rgb)
    return Photo(rgb, alpha, photo.name, photo.notes)
