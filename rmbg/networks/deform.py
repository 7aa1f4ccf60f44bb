"""Deformable convolution with modulation, in plain torch operations.

Xizhou Zhu, Han Hu, Stephen Lin, Jifeng Dai: "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019.
torchvision has it as a compiled operator, which lacks some devices and is a large dependency for one function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Sampled values are held for so many numbers at a time: a 7x7 kernel on a 256x256 map of 64 channels would need 822 MB
# at once, and on a processor smaller pieces stay in the caches.
CPU_PIECE = 2**21
GPU_PIECE = 2**28


class DeformableConv(nn.Module):
    """Convolution that looks for each output pixel at places, and with strengths, that depend on the input."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        padding = size // 2
        self.offset_conv = nn.Conv2d(inputs, 2 * size * size, size, padding=padding)
        self.modulator_conv = nn.Conv2d(inputs, size * size, size, padding=padding)
        self.regular_conv = nn.Conv2d(inputs, outputs, size, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        strength = 2 * torch.sigmoid(self.modulator_conv(x))
        return deform_conv2d(x, self.offset_conv(x), strength, self.regular_conv.weight, self.regular_conv.bias)


def deform_conv2d(x: Tensor, offset: Tensor, strength: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve `x` (N, C, H, W), stride 1, padded with zeros to its own size.

    Parameters
    ----------
    offset : Tensor (N, 2 * k * k, H, W)
        For each tap of the kernel, row by row, how far down and how far right of its place to look, in pixels.
    strength : Tensor (N, k * k, H, W)
        What each tap's value is multiplied by.
    weight : Tensor (outputs, C, k, k)
    bias : Tensor (outputs,), optional

    Returns
    -------
    Tensor (N, outputs, H, W)
    """
    batch, channels, height, width = x.shape
    taps = weight.shape[2] * weight.shape[3]
    # Places need more than half precision has: 8 bits tell 256 columns apart, but nothing between two of them.
    image = x.float()
    down, right = tap_places(offset.float(), weight.shape[2])
    kernel = weight.reshape(len(weight), -1)
    per_row = batch * channels * taps * width
    step = max(1, (CPU_PIECE if x.device.type == "cpu" else GPU_PIECE) // per_row)
    pieces = []
    for top in range(0, height, step):
        rows = slice(top, top + step)
        grid = torch.stack((right[:, :, rows], down[:, :, rows]), -1).flatten(1, 2)
        values = functional.grid_sample(image, grid, padding_mode="zeros", align_corners=False)
        values = values.view(batch, channels, taps, -1) * strength[:, None, :, rows].flatten(3)
        pieces.append(kernel @ values.flatten(1, 2).to(x.dtype))
    y = torch.cat(pieces, 2).view(batch, -1, height, width)
    return y if bias is None else y + bias[:, None, None]


def tap_places(offset: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows and columns (N, k * k, H, W) where each tap looks, with -1 and 1 for the edges of the map."""
    height, width = offset.shape[2:]
    around = torch.arange(size, device=offset.device) - size // 2
    rows = torch.arange(height, device=offset.device)[:, None] + around.repeat_interleave(size)[:, None, None]
    columns = torch.arange(width, device=offset.device) + around.repeat(size)[:, None, None]
    down = (offset[:, 0::2] + rows + 0.5) * (2 / height) - 1
    right = (offset[:, 1::2] + columns + 0.5) * (2 / width) - 1
    return down, right
