"""Modulated deformable convolution in plain torch operations.

Xizhou Zhu, Han Hu, Stephen Lin, Jifeng Dai: "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019.
torchvision has it as a compiled operator, which does not run on all devices and is a large dependency for one function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Sampled values held at a time. A 7x7 kernel on a 256x256 map of 64 channels would need 822 MB at once, and on a CPU
# smaller chunks stay in the cache.
CPU_CHUNK = 2**21
GPU_CHUNK = 2**28


class DeformableConv(nn.Module):
    """Convolution whose sampling offsets and modulation are predicted from the input."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        padding = size // 2
        self.offset_conv = nn.Conv2d(inputs, 2 * size * size, size, padding=padding)
        self.modulator_conv = nn.Conv2d(inputs, size * size, size, padding=padding)
        self.regular_conv = nn.Conv2d(inputs, outputs, size, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        modulation = 2 * torch.sigmoid(self.modulator_conv(x))
        return deform_conv2d(x, self.offset_conv(x), modulation, self.regular_conv.weight, self.regular_conv.bias)


def deform_conv2d(x: Tensor, offset: Tensor, modulation: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Deformable convolution with stride 1 and zero padding that keeps the size.

    Parameters
    ----------
    x : Tensor (N, C, H, W)
    offset : Tensor (N, 2 * k * k, H, W)
        Vertical and horizontal offset of each tap of the kernel, row by row, in pixels.
    modulation : Tensor (N, k * k, H, W)
        Factor of each tap's value.
    weight : Tensor (outputs, C, k, k)
    bias : Tensor (outputs,), optional

    Returns
    -------
    Tensor (N, outputs, H, W)
    """
    batch, channels, height, width = x.shape
    taps = weight.shape[2] * weight.shape[3]
    # In float32: the 8 significant bits of bfloat16 cannot express positions between two of 256 columns.
    image = x.float()
    down, right = sampling_positions(offset.float(), weight.shape[2])
    kernel = weight.reshape(len(weight), -1)
    per_row = batch * channels * taps * width
    step = max(1, (CPU_CHUNK if x.device.type == "cpu" else GPU_CHUNK) // per_row)
    chunks = []
    for top in range(0, height, step):
        rows = slice(top, top + step)
        grid = torch.stack((right[:, :, rows], down[:, :, rows]), -1).flatten(1, 2)
        values = functional.grid_sample(image, grid, padding_mode="zeros", align_corners=False)
        values = values.view(batch, channels, taps, -1) * modulation[:, None, :, rows].flatten(3)
        chunks.append(kernel @ values.flatten(1, 2).to(x.dtype))
    y = torch.cat(chunks, 2).view(batch, -1, height, width)
    return y if bias is None else y + bias[:, None, None]


def sampling_positions(offset: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows and columns that each tap samples: (N, k * k, H, W), with -1 and 1 at the edges of the map."""
    height, width = offset.shape[2:]
    tap = torch.arange(size, device=offset.device) - size // 2
    rows = torch.arange(height, device=offset.device)[:, None] + tap.repeat_interleave(size)[:, None, None]
    columns = torch.arange(width, device=offset.device) + tap.repeat(size)[:, None, None]
    down = (offset[:, 0::2] + rows + 0.5) * (2 / height) - 1
    right = (offset[:, 1::2] + columns + 0.5) * (2 / width) - 1
    return down, right
