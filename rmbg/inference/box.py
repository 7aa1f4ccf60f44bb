"""Crop of a photo to a box and its inverse, for networks that segment the object that fills their input.

As ``refiners.solutions.BoxSegmenter``, with which Finegrain's box segmenter is published
(https://github.com/finegrain-ai/refiners). Without a box, it takes the whole photo as the box, also with the margin.
"""

from __future__ import annotations

import numpy as np

#: Fraction of the box's width and height that is added at each side.
MARGIN = 0.05

#: Left, top, right and bottom in pixels; right and bottom are exclusive. May exceed the photo.
Box = tuple[int, int, int, int]


def add_margin(box: Box) -> Box:
    """Expand a box by `MARGIN`, rounded down to whole pixels."""
    left, top, right, bottom = box
    horizontal, vertical = int((right - left) * MARGIN), int((bottom - top) * MARGIN)
    return left - horizontal, top - vertical, right + horizontal, bottom + vertical


def crop(rgb: np.ndarray, box: Box) -> np.ndarray:
    """Crop a photo, uint8 (H, W, 3), to a box: uint8 (height, width, 3) of the box, black outside the photo."""
    left, top, right, bottom = box
    if box == (0, 0, rgb.shape[1], rgb.shape[0]):
        return rgb
    result = np.zeros((bottom - top, right - left, 3), np.uint8)
    in_photo, in_box = _overlap(box, *rgb.shape[:2])
    result[in_box] = rgb[in_photo]
    return result


def paste(alpha: np.ndarray, box: Box, height: int, width: int) -> np.ndarray:
    """Inverse of `crop` for the alpha of a crop, uint8 (height, width) of the box: uint8 (H, W), 0 outside the box."""
    if box == (0, 0, width, height):
        return alpha
    result = np.zeros((height, width), np.uint8)
    in_photo, in_box = _overlap(box, height, width)
    result[in_photo] = alpha[in_box]
    return result


def _overlap(box: Box, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of the part of a box that is inside the photo: in the photo, and in the box."""
    left, top, right, bottom = box
    rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    return (rows, columns), (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
