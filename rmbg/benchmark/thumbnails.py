"""Small pictures inside a page: photo, cut-out on a checkerboard."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from rmbg.compose import blend

#: Longest side, in pixels; the checkerboard's squares and its two greys.
SIDE, SQUARE, GREYS = 168, 8, (236, 198)


def thumbnail(rgb: np.ndarray, matte: np.ndarray | None = None) -> str:
    """A data URI of a photo, or of what a matte leaves of it.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    matte : uint8 array (H, W), optional
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
    if matte is not None:
        alpha = np.asarray(Image.fromarray(matte).resize(size, Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
        small = blend(small, alpha, checkerboard(size[1], size[0]))
    out = io.BytesIO()
    Image.fromarray(small).save(out, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def checkerboard(height: int, width: int, square: int = SQUARE) -> np.ndarray:
    """What transparency looks like: uint8 (height, width, 3)."""
    rows, columns = np.arange(height) // square, np.arange(width) // square
    light = (rows[:, None] + columns[None]) % 2 == 0
    return np.repeat(np.where(light, *GREYS).astype(np.uint8)[..., None], 3, axis=2)
