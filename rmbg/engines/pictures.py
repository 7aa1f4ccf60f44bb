"""Photo to network input, network output to alpha: exactly as the published pipelines do it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rmbg.engines.models import Model


def prepare(model: Model, rgb: np.ndarray) -> np.ndarray:
    """What the network sees of a photo.

    Parameters
    ----------
    model : Model
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    float32 array (1, 3, size, size)
    """
    if model.resampling == "plain":
        pixels = resize_plain(rgb, model.size, model.size)
    else:
        resized = Image.fromarray(rgb).resize((model.size, model.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, dtype=np.float32)
    scale = 1 / (255 * np.array(model.std, np.float32))
    shift = np.array(model.mean, np.float32) / np.array(model.std, np.float32)
    return np.ascontiguousarray((pixels * scale - shift).transpose(2, 0, 1)[None])


def alpha(model: Model, mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The network's mask at the photo's size.

    Parameters
    ----------
    model : Model
    mask : float32 array (size, size)
        In [0, 1].

    Returns
    -------
    uint8 array (height, width)
        Cut off to 8 bits, not rounded, as published.
    """
    if not model.levelled:
        small = Image.fromarray((mask * 255).astype(np.uint8))
        return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))
    full = resize_plain(mask, height, width)
    low, high = full.min(), full.max()
    full -= low
    full *= 255 / max(high - low, np.float32(1e-12))
    return full.astype(np.uint8)


def resize_plain(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """`picture` (H, W) or (H, W, C) at another size: float32, bilinear between the four nearest pixels' centres.

    A picture that shrinks is not smoothed first; networks that were trained this way must be shown such pictures.
    """
    top, bottom, down = _between(picture.shape[0], height)
    left, right, across = _between(picture.shape[1], width)
    rows = _mix(
        picture[top].astype(np.float32), picture[bottom].astype(np.float32), down.reshape(-1, *[1] * (picture.ndim - 1))
    )
    return _mix(rows.take(left, 1), rows.take(right, 1), across.reshape(-1, *[1] * (picture.ndim - 2)))


def _between(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new position: the old ones before and after it, and the share of the one after."""
    position = np.maximum((np.arange(new) + 0.5) * (old / new) - 0.5, 0)
    before = np.minimum(position.astype(np.intp), old - 1)
    return before, np.minimum(before + 1, old - 1), (position - before).astype(np.float32)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`first` and `second` mixed, in the memory of both: the arrays are large."""
    second -= first
    second *= share
    first += second
    return first
