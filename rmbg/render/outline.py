"""Outline of constant width around a subject."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from rmbg.images.color import Color, parse_color
from rmbg.matting.matte import tiles
from rmbg.render.notation import Length, parse_fields, parse_length

#: Side in pixels of the tiles in which distances are computed.
TILE = 512


@dataclass(frozen=True)
class Outline:
    """Line around the subject, behind it.

    Attributes
    ----------
    width : Length
        100 percent are the longer side of the subject's bounding box.
    color : (red, green, blue)
    """

    width: Length = Length(1, percent=True)
    color: Color = (255, 255, 255)


def parse_outline(text: str) -> Outline | None:
    """Parse ``WIDTH[,COLOR]``, for example ``8px,#ffffff``; empty or ``none`` for no outline.

    Raises
    ------
    OptionError
        If the text has another form or a value is out of range.
    """
    parts = parse_fields(text, "The outline", "WIDTH[,COLOR], such as 8px,#ffffff", (1, 2))
    if parts is None:
        return None
    width = parse_length(parts[0], "The width of the outline", most_percent=20, most_pixels=500)
    return Outline(width, parse_color(parts[1])) if len(parts) == 2 else Outline(width)


def outline(alpha: np.ndarray, width: float) -> np.ndarray:
    """Compute the coverage of an outline.

    Parameters
    ----------
    alpha : float32 array (H, W)
    width : float
        In pixels.

    Returns
    -------
    float32 array (H, W)
        Antialiased: 1 up to `width` pixels from the contour at alpha 0.5 and inside of it, 0 beyond.
    """
    result = np.zeros_like(alpha)
    if width <= 0:
        return result
    halo = math.ceil(width) + 2
    height, columns_count = alpha.shape
    for rows, columns in tiles(height, columns_count, TILE):
        top, left = max(0, rows.start - halo), max(0, columns.start - halo)
        near = alpha[top : rows.stop + halo, left : columns.stop + halo]
        inside = near >= 0.5
        if inside.all():
            result[rows, columns] = 1
        elif inside.any():
            covered = _coverage(near, inside, width)
            result[rows, columns] = covered[rows.start - top :, columns.start - left :][
                : rows.stop - rows.start, : columns.stop - columns.start
            ]
    return result


def _coverage(alpha: np.ndarray, inside: np.ndarray, width: float) -> np.ndarray:
    from scipy import ndimage  # deferred, as SciPy takes long to import

    distance, (nearest_rows, nearest_columns) = ndimage.distance_transform_edt(~inside, return_indices=True)
    # The contour lies between the outermost pixel inside and its neighbor outside; linear interpolation finds it.
    lowest = ndimage.minimum_filter(alpha, 3, mode="nearest")
    contour = np.clip((alpha - 0.5) / np.maximum(alpha - lowest, 1e-6), 0, 1)
    distance -= np.where(inside, 0.0, contour[nearest_rows, nearest_columns])
    return np.where(inside, 1.0, np.clip(width + 0.5 - distance, 0, 1)).astype(np.float32)
