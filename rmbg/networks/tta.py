"""Test-time augmentation of the built-in network: the mean of two scales, the smaller one mirrored.

The larger scale resolves details, the smaller one has more context. Their mean is more accurate than that of two passes at
either scale.
"""

import numpy as np
import torch
from PIL import Image

from rmbg.networks.builtin import INPUT_SIZE, MEAN, STD, BuiltinNet

#: Side of the second pass as a fraction of the first one's.
SMALL_SCALE = 0.8

BILINEAR = Image.Resampling.BILINEAR


def predict(net: BuiltinNet, rgb: np.ndarray, side: int = INPUT_SIZE) -> tuple[np.ndarray, float]:
    """Average the predictions for a photo and for its smaller mirror image.

    Parameters
    ----------
    net : BuiltinNet
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
    large_logits, large_confidence = _forward(net, large)
    mirrored_logits, small_confidence = _forward(net, small)
    small_logits = Image.fromarray(np.ascontiguousarray(mirrored_logits[:, ::-1])).resize((side, side), BILINEAR)
    return (large_logits + np.asarray(small_logits)) / 2, (large_confidence + small_confidence) / 2


@torch.inference_mode()
def _forward(net: BuiltinNet, picture: Image.Image) -> tuple[np.ndarray, float]:
    """Logits, float32 (H, W), and confidence for a picture whose sides are multiples of 32."""
    pixels = (np.asarray(picture, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    logits, confidence = net(x)
    return logits[0, 0].numpy(), float(confidence)
