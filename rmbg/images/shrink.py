"""Downscaling of a photo: area averages, with alpha as the weight of colors."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rmbg.images.photo import Photo
from rmbg.threads import run_parallel


def shrink_photo(photo: Photo, side: int) -> Photo:
    """Downscale a photo to at most `side` pixels on its longer side; returns the same photo if it is not larger."""
    scale = side / max(photo.width, photo.height)
    if scale >= 1:
        return photo
    width, height = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    rgb, alpha = _scaled(photo.rgb, width, height), photo.alpha
    if alpha is not None:
        weighted = weighted_colors(photo.rgb, alpha.astype(np.float32) / np.float32(255), width, height)
        alpha = _scaled(alpha, width, height)
        rgb = np.where((alpha > 0)[..., None], weighted, rgb)
    return Photo(rgb, alpha, photo.name, photo.notes)


def weighted_colors(colors: np.ndarray, alpha: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average colors with alpha as weight; black under alpha zero would cause a dark fringe."""
    total = np.maximum(_scaled(alpha, width, height), 1e-4)
    planes = run_parallel(lambda c: _scaled(colors[..., c] * alpha, width, height) / total, range(3))
    return np.clip(np.stack(planes, axis=-1) + 0.5, 0, 255).astype(np.uint8)


def _scaled(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))
