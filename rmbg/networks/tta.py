"""Test-time augmentation of the built-in network: the mean of two scales, the smaller one mirrored.

The larger scale resolves details, the smaller one has more context. Their mean is more accurate than that of two passes at
either scale.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from rmbg.networks.builtin_spec import INPUT_SIZE, MEAN, STD

#: From a normalized picture, float32 (1, 3, H, W) whose sides are multiples of 32, to logits, float32 (H, W), and the
#: confidence.
Forward = Callable[[np.ndarray], tuple[np.ndarray, float]]

#: Side of the second pass as a fraction of the first one's.
SMALL_SCALE = 0.8

BILINEAR = Image.Resampling.BILINEAR


def predict(forward: Forward, rgb: np.ndarray, side: int = INPUT_SIZE) -> tuple[np.ndarray, float]:
    """Average the predictions for a photo and for its smaller mirror image.

    Parameters
    ----------
    forward : Forward
        The network.
    rgb : uint8 array (H, W, 3)
    side : int
        Side of the first pass, a multiple of 32.

    Returns
    -------
    logits : float32 array (side, side)
        For the whole photo, resized to a square.
    confidence : float
        Predicted IoU of the matte in [0, 1].
    """
    small_side = max(32, round(side * SMALL_SCALE / 32) * 32)
    large = Image.fromarray(rgb).resize((side, side), BILINEAR, reducing_gap=2.0)
    small = large.resize((small_side, small_side), BILINEAR).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    large_logits, large_confidence = forward(_normalize(large))
    mirrored_logits, small_confidence = forward(_normalize(small))
    small_logits = Image.fromarray(np.ascontiguousarray(mirrored_logits[:, ::-1])).resize((side, side), BILINEAR)
    return (large_logits + np.asarray(small_logits)) / 2, (large_confidence + small_confidence) / 2


def _normalize(picture: Image.Image) -> np.ndarray:
    pixels = (np.asarray(picture, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
