"""Conversion of a photo to a network's input and of its mask to alpha, as in the published pipelines."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rmbg.inference.catalog import Model
from rmbg.runtime.threads import row_strips, run_parallel

#: Rows of alpha that are computed at a time.
STRIP_ROWS = 128

#: Filters of Pillow, all antialiased, for each resampling but "plain".
FILTERS = {"antialiased": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}


def prepare(model: Model, rgb: np.ndarray) -> np.ndarray:
    """Resize and normalize a photo.

    Parameters
    ----------
    model : Model
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    float32 array (1, 3, h, w)
        Of ``model.input_shape``.
    """
    height, width = model.input_shape(*rgb.shape[:2])
    rows, columns = place(model, *rgb.shape[:2])
    size = rows.stop - rows.start, columns.stop - columns.start
    if model.resampling == "plain":
        pixels = resize_plain(rgb, *size)
    else:
        pixels = np.asarray(Image.fromarray(rgb).resize(size[::-1], FILTERS[model.resampling]))
    white = max(float(pixels.max()), 1e-6) if model.relative else 255
    scale = 1 / (white * np.array(model.std, np.float32))
    offset = np.array(model.mean, np.float32) / np.array(model.std, np.float32)
    images = np.zeros((1, 3, height, width), np.float32)
    images[0, :, rows, columns] = (pixels * scale - offset).transpose(2, 0, 1)
    return images


def alpha(model: Model, mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a network's mask to the photo's size.

    Parameters
    ----------
    model : Model
    mask : float32 array (h, w)
        In [0, 1], of the size of the network's input.
    height, width : int
        Of the photo.

    Returns
    -------
    uint8 array (height, width)
        Truncated to 8 bits, not rounded, as in the published pipelines.
    """
    mask = mask[place(model, height, width)]
    if not model.minmax_normalize:
        small = Image.fromarray((mask * 255).astype(np.uint8))
        return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    full, result = np.empty((height, width), np.float32), np.empty((height, width), np.uint8)
    strips = row_strips(height, STRIP_ROWS)

    def resize(rows: slice) -> tuple[np.float32, np.float32]:
        full[rows] = part = resize_plain(mask, height, width, rows)
        return part.min(), part.max()

    lows, highs = zip(*run_parallel(resize, strips), strict=True)
    low, scale = min(lows), 255 / max(max(highs) - min(lows), np.float32(1e-12))

    def normalize(rows: slice) -> None:
        result[rows] = (full[rows] - low) * scale

    run_parallel(normalize, strips)
    return result


def place(model: Model, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the network's input that a photo fills."""
    rows, columns = model.input_shape(height, width)
    if model.letterbox is None:
        return slice(0, rows), slice(0, columns)
    scale = min(rows / height, columns / width)
    rounding = 0.5 if model.letterbox == "corner" else 0.0
    used = max(1, int(height * scale + rounding)), max(1, int(width * scale + rounding))
    top, left = (0, 0) if model.letterbox == "corner" else ((rows - used[0]) // 2, (columns - used[1]) // 2)
    return slice(top, top + used[0]), slice(left, left + used[1])


def resize_plain(picture: np.ndarray, height: int, width: int, rows: slice = slice(None)) -> np.ndarray:
    """Resize bilinearly without antialiasing, as ``torch.nn.functional.interpolate`` does by default.

    Networks that were trained on pictures without antialiasing need it.

    Parameters
    ----------
    picture : array (H, W) or (H, W, C)
    height, width : int
    rows : slice
        Rows of the result that are computed; by default all.

    Returns
    -------
    float32 array (height, width) or (height, width, C)
    """
    top, bottom, row_weight = (values[rows] for values in _neighbors(picture.shape[0], height))
    left, right, column_weight = _neighbors(picture.shape[1], width)
    row_weight = row_weight.reshape(-1, *[1] * (picture.ndim - 1))
    column_weight = column_weight.reshape(-1, *[1] * (picture.ndim - 2))
    if width < picture.shape[1]:  # only the pixels that are used
        upper, lower = picture[top], picture[bottom]
        first, second = (_interpolate(upper.take(x, 1), lower.take(x, 1), row_weight) for x in (left, right))
        return _interpolate(first, second, column_weight)
    between = _interpolate(picture[top], picture[bottom], row_weight)
    return _interpolate(between.take(left, 1), between.take(right, 1), column_weight)


def _neighbors(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the two old pixels around each new one, and the weight of the second: three arrays (new,)."""
    position = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    first = np.minimum(position.astype(np.intp), old - 1)
    return first, np.minimum(first + 1, old - 1), (position - first).astype(np.float32)


def _interpolate(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear interpolation in float32; overwrites float32 arguments, as they are large."""
    first, second = first.astype(np.float32, copy=False), second.astype(np.float32, copy=False)
    second -= first
    second *= weight
    first += second
    return first
