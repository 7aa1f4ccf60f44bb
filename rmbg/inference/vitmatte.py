"""ViTMatte: alpha in the unknown band of a trimap, in tiles for large photos.

J. Yao, X. Wang, S. Yang and B. Wang, "ViTMatte: Boosting Image Matting with Pre-trained Plain Vision Transformers", Information
Fusion 103, 2024.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rmbg.errors import CancelledError
from rmbg.inference.catalog import VITMATTE
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.settings import Settings

if TYPE_CHECKING:
    from rmbg.inference.torch_runner import VitMatteRunner  # deferred at run time: importing torch takes seconds

#: Overlap of two tiles in pixels, in which one fades into the other.
OVERLAP = 128

#: Both sides of the network's input are multiples of this number of pixels.
DIVISOR = 32


def predict_alpha(
    rgb: np.ndarray,
    trimap: np.ndarray,
    settings: Settings,
    *,
    progress: Callable[[float | None, str], None] = lambda fraction, text: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> np.ndarray:
    """Compute alpha in the unknown band of a trimap by ViTMatte.

    A photo of at most the area of a tile is computed as a whole, as in the published pipeline. Tiles of a larger one are
    computed where they hold unknown pixels.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
        The photo.
    trimap : uint8 array (H, W)
        0 for background, 255 for foreground, 128 for unknown pixels.
    settings : Settings
        Device, and folders of the weights, which are downloaded on first use.
    progress : callable (fraction or None, text), optional
    cancelled : callable () -> bool, optional
        Called before each tile.

    Returns
    -------
    float32 array (H, W)
        0 or 1 where alpha is known.

    Raises
    ------
    CancelledError
        Once `cancelled` returns True.
    NotReadyError
        If the weights or the device are not available.
    ModelError
        If the network cannot be loaded or run.
    """
    known = (trimap == 255).astype(np.float32)
    unknown = (trimap > 0) & (trimap < 255)
    height, width = trimap.shape
    windows = [window for window in _windows(height, width, VITMATTE.size) if unknown[window].any()]
    if not windows:
        return known

    def check() -> None:
        if cancelled():
            raise CancelledError("Stopped.")

    def run(runner: VitMatteRunner) -> np.ndarray:
        total, weights = np.zeros(trimap.shape, np.float32), np.zeros(trimap.shape, np.float32)
        for number, window in enumerate(windows):
            check()
            progress(number / len(windows), "Alpha matting by ViTMatte")
            rows, columns = trimap[window].shape
            alpha = runner.run(prepare(rgb[window], trimap[window]))[0, :rows, :columns]
            weight = _fade(rows)[:, None] * _fade(columns)
            total[window] += alpha * weight
            weights[window] += weight
        return np.where(unknown, total / np.maximum(weights, np.float32(1e-6)), known)

    result, _ = MODEL_CACHE.run(VITMATTE, run, settings, progress, check)
    progress(1.0, "Alpha matting by ViTMatte")
    return result


def prepare(rgb: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Input of the network: normalized colors and the trimap in [0, 1], padded by zeros to multiples of 32.

    Parameters
    ----------
    rgb : uint8 array (h, w, 3)
    trimap : uint8 array (h, w)

    Returns
    -------
    float32 array (1, 4, H, W)
    """
    height, width = trimap.shape
    result = np.zeros((1, 4, *(math.ceil(side / DIVISOR) * DIVISOR for side in (height, width))), np.float32)
    for channel, (mean, std) in enumerate(zip(VITMATTE.mean, VITMATTE.std, strict=True)):
        result[0, channel, :height, :width] = (rgb[..., channel] / np.float32(255) - np.float32(mean)) / np.float32(std)
    result[0, 3, :height, :width] = trimap / np.float32(255)
    return result


def _windows(height: int, width: int, side: int) -> list[tuple[slice, slice]]:
    """Overlapping tiles (rows, columns) of a photo; the whole photo if its area is not larger than that of a tile."""
    if height * width <= side * side:
        return [(slice(0, height), slice(0, width))]
    return [(rows, columns) for rows in _spans(height, side) for columns in _spans(width, side)]


def _spans(length: int, side: int) -> list[slice]:
    """Slices of at most `side` that cover an axis, evenly spaced, and overlap by at least `OVERLAP`."""
    if length <= side:
        return [slice(0, length)]
    count = math.ceil((length - OVERLAP) / (side - OVERLAP))
    starts = (round(i * (length - side) / (count - 1)) for i in range(count))
    return [slice(start, start + side) for start in starts]


def _fade(length: int) -> np.ndarray:
    """Weights along one axis of a tile, float32 (length,): they rise from each border to 1."""
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(distance / np.float32(OVERLAP), 1).astype(np.float32)
