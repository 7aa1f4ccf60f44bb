"""Trimap of a matte: known foreground, known background, unknown band."""

from __future__ import annotations

import numpy as np

from rmbg.matting.edges import AlphaMatting

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255

#: Longer side of a photo, in pixels, for which `AlphaMatting.erode_size` is in pixels; on larger photos it grows in proportion,
#: as the errors of a network of fixed input size do.
REFERENCE_SIDE = 1024


def make_trimap(matte: np.ndarray, settings: AlphaMatting) -> np.ndarray:
    """Trimap of a matte.

    Parameters
    ----------
    matte : float32 array (H, W)
        Alpha in [0, 1].
    settings : AlphaMatting
        Foreground and background are eroded by a square of ``erode_size``, as in rembg.

    Returns
    -------
    uint8 array (H, W)
        `BACKGROUND`, `UNKNOWN` or `FOREGROUND`.
    """
    from scipy import ndimage

    side = max(1, round(settings.erode_size * max(1.0, max(matte.shape) / REFERENCE_SIDE)))
    trimap = np.full(matte.shape, UNKNOWN, np.uint8)
    for value, known in (
        (FOREGROUND, matte * np.float32(255) > settings.foreground_threshold),
        (BACKGROUND, matte * np.float32(255) < settings.background_threshold),
    ):
        eroded = ndimage.minimum_filter(known.view(np.uint8), side, mode="nearest")
        trimap[eroded.view(bool)] = value
    return trimap
