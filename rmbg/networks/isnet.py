"""IS-Net, the network of RMBG-1.4, isnet-general-use and anime-seg, and the residual U-blocks that U2-Net consists of.

Xuebin Qin, Hang Dai, Xiaobin Hu, Deng-Ping Fan, Ling Shao, Luc Van Gool:
"Highly Accurate Dichotomous Image Segmentation", ECCV 2022.

A U-shaped network whose stages are small U-shaped networks themselves (residual U-blocks, from U2-Net). Module names are those
of the published checkpoint, so that `model.safetensors` of `briaai/RMBG-1.4` loads unchanged. The networks of xuebinqin/DIS
and SkyTNT/anime-segmentation are the same function. In `model.safetensors` of `skytnt/anime-seg` the names begin with ``net.``,
and the tensors of ``gt_encoder.`` are used in training only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Parts of the names of tensors in checkpoints that inference does not need: the five coarser side outputs, and the encoder of
# the ground truth in training.
UNUSED = (*(f"side{level}." for level in range(2, 7)), "gt_encoder.")


class ConvBlock(nn.Module):
    """3x3 convolution that keeps the size, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv_s1 = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)
        self.bn_s1 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn_s1(self.conv_s1(x)), inplace=True)


class ResidualU(nn.Module):
    """Residual U-block: an encoder and decoder of `depth` levels, added to the block's first convolution.

    Parameters
    ----------
    depth : int
        Number of encoder convolutions. Each but the first and the last halves the size.
    flat : bool
        Keep the size and double the dilation from level to level instead, for maps too small to be halved.
    """

    def __init__(self, depth: int, inputs: int, middle: int, outputs: int, flat: bool = False) -> None:
        super().__init__()
        self.depth = depth
        self.flat = flat
        self.rebnconvin = ConvBlock(inputs, outputs)
        for level in range(1, depth + 1):
            dilation = 2 ** (level - 1) if flat else 1 + (level == depth)
            self.add_module(f"rebnconv{level}", ConvBlock(outputs if level == 1 else middle, middle, dilation))
        for level in range(depth - 1, 0, -1):
            dilation = 2 ** (level - 1) if flat else 1
            self.add_module(f"rebnconv{level}d", ConvBlock(2 * middle, outputs if level == 1 else middle, dilation))

    def forward(self, x: Tensor) -> Tensor:
        entry = self.rebnconvin(x)
        skips = []
        x = entry
        for level in range(1, self.depth + 1):
            if not self.flat and 1 < level < self.depth:
                x = halve(x)
            x = self.get_submodule(f"rebnconv{level}")(x)
            skips.append(x)
        x = skips.pop()
        for level in range(self.depth - 1, 0, -1):
            skip = skips.pop()
            x = self.get_submodule(f"rebnconv{level}d")(torch.cat((resize_like(x, skip), skip), 1))
        return x + entry


class ISNet(nn.Module):
    """Segmentation network of six encoder and five decoder stages.

    `forward` takes float (N, 3, H, W), normalized as in `rmbg.inference.catalog`, and returns the mask's logits, float
    (N, 1, H, W). H and W should be multiples of 64; the checkpoint was trained at 1024.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.stage1 = ResidualU(7, 64, 32, 64)
        self.stage2 = ResidualU(6, 64, 32, 128)
        self.stage3 = ResidualU(5, 128, 64, 256)
        self.stage4 = ResidualU(4, 256, 128, 512)
        self.stage5 = ResidualU(4, 512, 256, 512, flat=True)
        self.stage6 = ResidualU(4, 512, 256, 512, flat=True)
        self.stage5d = ResidualU(4, 1024, 256, 512, flat=True)
        self.stage4d = ResidualU(4, 1024, 128, 256)
        self.stage3d = ResidualU(5, 512, 64, 128)
        self.stage2d = ResidualU(6, 256, 32, 64)
        self.stage1d = ResidualU(7, 128, 16, 64)
        self.side1 = nn.Conv2d(64, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return resize_like(self.side1(u_shape(self, self.conv_in(image))[0]), image)


def u_shape(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Run the stages of an IS-Net or U2-Net: the outputs of stages 1d to 5d and of stage 6, from fine to coarse."""
    skips = []
    for level in range(1, 7):
        x = network.get_submodule(f"stage{level}")(halve(x) if level > 1 else x)
        skips.append(x)
    maps = [skips.pop()]
    for level in range(5, 0, -1):
        skip = skips.pop()
        x = network.get_submodule(f"stage{level}d")(torch.cat((resize_like(maps[0], skip), skip), 1))
        maps.insert(0, x)
    return maps


def halve(x: Tensor) -> Tensor:
    """Max pooling over 2x2; odd sizes are rounded up."""
    return functional.max_pool2d(x, 2, ceil_mode=True)


def resize_like(x: Tensor, target: Tensor) -> Tensor:
    """Resize `x` to the height and width of `target`, bilinear with half-pixel centers."""
    return x if x.shape[2:] == target.shape[2:] else functional.interpolate(x, size=target.shape[2:], mode="bilinear")
