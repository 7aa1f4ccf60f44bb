"""Thumbnails of photos and cutouts as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from rmbg.images.blending import blend
from rmbg.render.checkerboard import checkerboard

#: Longest side in pixels.
MAX_SIDE = 168


def thumbnail(rgb: np.ndarray, matte: np.ndarray | None = None) -> str:
    """Data URI of a photo, or with a matte, of its subject on a checkerboard.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    matte : uint8 array (H, W), optional
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
    if matte is not None:
        alpha = np.asarray(Image.fromarray(matte).resize(size, Image.Resampling.BOX), dtype=np.float32) / np.float32(255)
        small = blend(small, alpha, checkerboard(size[1], size[0]))
    out = io.BytesIO()
    Image.fromarray(small).save(out, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
