"""U2-Net, and its small variant.

Xuebin Qin, Zichen Zhang, Chenyang Huang, Masood Dehghan, Osmar R. Zaiane, Martin Jagersand: "U2-Net: Going Deeper with Nested
U-Structure for Salient Object Detection", Pattern Recognition 106, 2020.

The predecessor of IS-Net: the stages run at the full size of the image, and the mask is a fusion of all six side outputs.
Module names are those of the published checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rmbg.networks.isnet import ResidualU, resize_like, u_shape


class Widths(NamedTuple):
    """Channels inside the residual U-blocks and of their outputs: stages 1 to 6, and the decoder's stages 1 to 5."""

    middle: tuple[int, ...]
    outputs: tuple[int, ...]
    decoder_middle: tuple[int, ...]
    decoder_outputs: tuple[int, ...]


FULL = Widths((32, 32, 64, 128, 256, 256), (64, 128, 256, 512, 512, 512), (16, 32, 64, 128, 256), (64, 64, 128, 256, 512))
SMALL = Widths((16,) * 6, (64,) * 6, (16,) * 5, (64,) * 5)


class U2Net(nn.Module):
    """Segmentation network of six encoder and five decoder stages.

    `forward` takes float (N, 3, H, W), normalized as in `rmbg.inference.catalog`, and returns the mask's logits, float
    (N, 1, H, W).

    Parameters
    ----------
    widths : Widths
        `FULL`, or `SMALL` for u2netp.
    classes : int
        1 for a mask. Otherwise the first class is the background, and the mask is the probability of all others together.
    """

    def __init__(self, widths: Widths, classes: int = 1) -> None:
        super().__init__()
        self.classes = classes
        depths = (7, 6, 5, 4, 4, 4)
        inputs = 3
        for level, (middle, outputs) in enumerate(zip(widths.middle, widths.outputs, strict=True), 1):
            self.add_module(f"stage{level}", ResidualU(depths[level - 1], inputs, middle, outputs, flat=level > 4))
            inputs = outputs
        for level in range(5, 0, -1):
            middle, outputs = widths.decoder_middle[level - 1], widths.decoder_outputs[level - 1]
            stage = ResidualU(depths[level - 1], inputs + widths.outputs[level - 1], middle, outputs, flat=level > 4)
            self.add_module(f"stage{level}d", stage)
            inputs = outputs
        for level, channels in enumerate((*widths.decoder_outputs, widths.outputs[5]), 1):
            self.add_module(f"side{level}", nn.Conv2d(channels, classes, 3, padding=1))
        self.outconv = nn.Conv2d(6 * classes, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        logits = self.class_logits(image)
        if self.classes == 1:
            return logits
        return (logits[:, 1:] - logits[:, :1]).logsumexp(1, keepdim=True)

    def class_logits(self, image: Tensor) -> Tensor:
        """Logits of the classes: float (N, classes, H, W)."""
        maps = u_shape(self, image)
        sides = [self.get_submodule(f"side{level}")(x) for level, x in enumerate(maps, 1)]
        return self.outconv(torch.cat([resize_like(side, image) for side in sides], 1))
