"""Operations on mattes that the pipeline uses: resizing, tiling, sharpening, bounding box, conversion to bytes.

All functions are pure. A matte is a float32 array (H, W) with alpha in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from rmbg.threads import row_strips, run_parallel

#: Alpha at or below the first is transparent, at or above the second opaque: half a level of 8 bits from either end.
ALPHA_MIN, ALPHA_MAX = 0.5 / 255, 254.5 / 255

#: Side of a tile in pixels: small enough for the processor's cache, large enough to keep the overhead low.
TILE = 384

#: Rows that are converted at a time.
STRIP_ROWS = 64


def resize(matte: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a matte to float32 (height, width), bilinear, antialiased where it shrinks."""
    image = Image.fromarray(np.ascontiguousarray(matte, dtype=np.float32))
    return np.clip(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)), 0.0, 1.0)


def resample(matte: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an accurate matte to float32 (height, width): bicubic, or the mean of the covered pixels where both sides shrink.

    Constants and ramps are kept, so that translucent parts stay as they are. On accurate mattes the edge error is lower than
    that of guided upsampling, which is for mattes with misplaced edges.
    """
    shrinks = height <= matte.shape[0] and width <= matte.shape[1]
    filter_ = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC
    image = Image.fromarray(np.ascontiguousarray(matte, dtype=np.float32))
    return np.clip(np.asarray(image.resize((width, height), filter_)), 0.0, 1.0)


def tiles(height: int, width: int, side: int = TILE) -> list[tuple[slice, slice]]:
    """Slices (rows, columns) that cover an array of shape (height, width) without overlap."""
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def sharpen_edges(matte: np.ndarray, slope: float = 2.0) -> np.ndarray:
    """Stretch alpha around one half by `slope`: float32 (H, W).

    Networks predict edges that are softer than the photo's.
    """
    return np.clip((matte - 0.5) * slope + 0.5, 0.0, 1.0).astype(np.float32)


def bounding_box(matte: np.ndarray, *, margin: float = 0.0, threshold: float = 0.05) -> tuple[slice, slice]:
    """Bounding box of the subject as (rows, columns).

    Parameters
    ----------
    matte : float array (H, W)
    margin : float
        Space around the subject as a fraction of the box's longer side; the result is clipped to the picture.
    threshold : float
        Alpha above which a pixel belongs to the subject.

    Returns
    -------
    rows, columns : slice
        The whole picture for an empty matte.
    """
    subject = matte > threshold
    rows, columns = np.flatnonzero(subject.any(axis=1)), np.flatnonzero(subject.any(axis=0))
    if rows.size == 0:
        return slice(0, matte.shape[0]), slice(0, matte.shape[1])
    pixels = round(margin * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    return _span(rows, pixels, matte.shape[0]), _span(columns, pixels, matte.shape[1])


def pixel_window(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Bounding box of the True pixels of a mask, with `margin` pixels around it, as (rows, columns).

    At least one pixel must be True. The result is clipped to the picture.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return _span(rows, margin, mask.shape[0]), _span(columns, margin, mask.shape[1])


def _span(indices: np.ndarray, margin: int, length: int) -> slice:
    """From the first to the last of sorted indices, with `margin` on both sides, within `length`."""
    return slice(max(0, int(indices[0]) - margin), min(length, int(indices[-1]) + 1 + margin))


def to_bytes(matte: np.ndarray) -> np.ndarray:
    """Convert a matte to uint8 (H, W), rounded to the nearest level."""
    return _converted(matte, np.uint8, lambda alpha: alpha * np.float32(255) + np.float32(0.5))


def to_sixteen_bits(matte: np.ndarray) -> np.ndarray:
    """Convert a matte to uint16 (H, W), halves rounded down: alpha 0.5 stays outside of a mask that is binarized above it."""
    return _converted(matte, np.uint16, lambda alpha: np.ceil(alpha * np.float32(65535) - np.float32(0.5)))


def from_sixteen_bits(levels: np.ndarray) -> np.ndarray:
    """Convert the levels of `to_sixteen_bits` to a matte."""
    return np.divide(levels, np.float32(65535), dtype=np.float32)


def _converted(matte: np.ndarray, dtype: type[np.generic], convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Convert a matte in strips of rows, as new memory for intermediate arrays takes longer than the conversion."""
    result: np.ndarray = np.empty(matte.shape, dtype)

    def fill(rows: slice) -> None:
        result[rows] = convert(matte[rows])

    run_parallel(fill, row_strips(len(matte), STRIP_ROWS))
    return result
