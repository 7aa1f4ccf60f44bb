"""Downscaling of arrays by area averages, without converting the whole picture to a PIL image."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from rmbg.threads import run_parallel

#: Rows that are reduced at a time: few enough that the memory of one strip is reused for the next.
STRIP_ROWS = 192


def downscale(
    pixels: np.ndarray,
    width: int,
    height: int,
    resampling: Image.Resampling = Image.Resampling.BOX,
    *,
    box: tuple[float, float, float, float] | None = None,
    reducing_gap: float = 2.0,
) -> np.ndarray:
    """Resize an array with the result of Pillow's ``Image.resize`` with a `reducing_gap`.

    The picture is reduced by whole factors first, in parallel strips of rows, then resized to its final size.

    Parameters
    ----------
    pixels : uint8 array (H, W) or (H, W, 3), or float32 array (H, W)
    width, height : int
        Size of the result; a larger one than that of `pixels` is possible.
    resampling : PIL.Image.Resampling
    box : tuple of 4 float, optional
        The part (left, top, right, bottom) of the picture that is resized, in pixels; by default all of it. Pixels outside have
        no influence.
    reducing_gap : float
        Least ratio, at least 1, of the reduced size to that of the result.

    Returns
    -------
    array
        Of the type of `pixels`. Read-only.
    """
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    x, y = math.floor(left), math.floor(top)
    across, down = _factors(right - left, bottom - top, width, height, reducing_gap)
    small = reduce(pixels[y : math.ceil(bottom), x : math.ceil(right)], across, down)
    covered = (left - x) / across, (top - y) / down, (right - x) / across, (bottom - y) / down
    return np.asarray(Image.fromarray(np.ascontiguousarray(small)).resize((width, height), resampling, box=covered))


def downscale_weighted(colors: np.ndarray, alpha: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average colors with alpha as weight, as black under alpha zero would cause a dark fringe.

    Parameters
    ----------
    colors : uint8 array (H, W, 3)
    alpha : float32 array (H, W)
        In [0, 1].

    Returns
    -------
    uint8 array (height, width, 3)
    """
    rows, columns = alpha.shape
    across, down = _factors(columns, rows, width, height)

    def weigh(channel: int) -> np.ndarray:
        return _reduce(alpha, across, down, lambda part: colors[part, :, channel] * alpha[part])

    planes = [weigh(channel) for channel in range(3)]
    planes.append(reduce(alpha, across, down))
    size, covered = (width, height), (0, 0, columns / across, rows / down)
    box = Image.Resampling.BOX
    *weighted, total = (np.asarray(Image.fromarray(plane).resize(size, box, box=covered)) for plane in planes)
    averages = np.stack(weighted, axis=-1) / np.maximum(total, np.float32(1e-4))[..., None]
    return np.clip(averages + np.float32(0.5), 0, 255).astype(np.uint8)


def reduce(pixels: np.ndarray, across: int, down: int) -> np.ndarray:
    """Average cells of ``across x down`` pixels, of which the last ones may be incomplete; arguments as of `downscale`."""
    return pixels if across == down == 1 else _reduce(pixels, across, down, pixels.__getitem__)


def reduce_to(rgb: np.ndarray, side: int) -> np.ndarray:
    """Reduce a picture by the largest whole factor that leaves at least `side` pixels on its longer side."""
    factor = max(1, max(rgb.shape[:2]) // side)
    return reduce(rgb, factor, factor)


def _factors(columns: float, rows: float, width: int, height: int, reducing_gap: float = 2.0) -> tuple[int, int]:
    """Whole factors, horizontal and vertical, that leave at least `reducing_gap` times the pixels of the result."""
    return max(1, int(columns / width / reducing_gap)), max(1, int(rows / height / reducing_gap))


def _reduce(like: np.ndarray, across: int, down: int, strip: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Average cells of the picture whose rows `strip` returns, of the shape and type of `like`."""
    height, width = like.shape[:2]
    result = np.empty((-(-height // down), -(-width // across), *like.shape[2:]), like.dtype)
    step = max(1, STRIP_ROWS // down)

    def fill(top: int) -> None:
        pixels = np.ascontiguousarray(strip(slice(top * down, (top + step) * down)))
        result[top : top + step] = np.asarray(Image.fromarray(pixels).reduce((across, down)))

    run_parallel(fill, range(0, len(result), step))
    return result
