"""How the built-in network looks at a photo: twice, at two sizes.

A look at a large size sees details, one at a smaller size more of the whole. Together, the smaller one mirrored, they are right
more often than two looks of either size.
"""

import numpy as np
import torch
from PIL import Image

from rmbg.networks.builtin import INPUT_SIZE, MEAN, STD, BuiltinNet

#: Side of the second look, as a share of that of the first.
SMALLER = 0.8

BILINEAR = Image.Resampling.BILINEAR


def predict(net: BuiltinNet, rgb: np.ndarray, side: int = INPUT_SIZE) -> tuple[np.ndarray, float]:
    """What the network makes of a photo: the mean of a look at it and of one at a smaller mirror image.

    Parameters
    ----------
    net : BuiltinNet
    rgb : uint8 array (H, W, 3)
    side : int
        Side of the first look, a multiple of 32.

    Returns
    -------
    logits : float32 array (side, side)
        For the whole photo, squashed to a square.
    confidence : float
        The IoU, 0 to 1, that the network expects of its matte.
    """
    smaller = max(32, round(side * SMALLER / 32) * 32)
    large = Image.fromarray(rgb).resize((side, side), BILINEAR, reducing_gap=2.0)
    small = large.resize((smaller, smaller), BILINEAR).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    straight, confidence = _look(net, large)
    mirrored, also_confident = _look(net, small)
    back = Image.fromarray(np.ascontiguousarray(mirrored[:, ::-1])).resize((side, side), BILINEAR)
    return (straight + np.asarray(back)) / 2, (confidence + also_confident) / 2


@torch.inference_mode()
def _look(net: BuiltinNet, picture: Image.Image) -> tuple[np.ndarray, float]:
    """Logits, float32 (H, W), and confidence for a picture whose sides are multiples of 32."""
    pixels = (np.asarray(picture, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    logits, confidence = net(x)
    return logits[0, 0].numpy(), float(confidence)
