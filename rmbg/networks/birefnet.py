"""BiRefNet, the network of RMBG-2.0, BiRefNet and BiRefNet_lite.

Peng Zheng, Dehong Gao, Deng-Ping Fan, Li Liu, Jorma Laaksonen, Wanli Ouyang, Nicu Sebe:
"Bilateral Reference for High-Resolution Dichotomous Image Segmentation", CAAI AIR 2024.

A Swin backbone encodes the image at full and at half size. The decoder upsamples from 1/32 to full size. At each level it
also receives the image, cut into patches that are stacked as channels, which preserves detail (the inward reference).
Module names are those of the checkpoints.

The last layers are computed in another order than published, with the same result at lower cost: see `Decoder.project`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from rmbg.networks.deform import DeformableConv
from rmbg.networks.swin import Swin

# Parts of the names of tensors in the checkpoints that inference does not need: auxiliary training heads and index tables.
UNUSED = ("decoder.conv_ms_spvn_", "decoder.gdt_convs_pred_", "relative_position_index")

PatchOrder = Literal["columns", "colors"]


@dataclass(frozen=True)
class Backbone:
    """Hyperparameters of a Swin transformer."""

    channels: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int


SWIN_L = Backbone(192, (2, 2, 18, 2), (6, 12, 24, 48), 12)
SWIN_T = Backbone(96, (2, 2, 6, 2), (3, 6, 12, 24), 7)


class BiRefNet(nn.Module):
    """Segmentation network with a Swin backbone.

    `forward` takes float (N, 3, H, W), normalized as in `rmbg.inference.catalog`, H and W multiples of 32, and returns the
    mask's logits, float (N, 1, H, W).

    Parameters
    ----------
    backbone : Backbone
        `SWIN_L`, or `SWIN_T` for the lite checkpoints.
    patch_order : {"columns", "colors"}
        Order of the image patches that the checkpoint was trained with, see `image_patches`. A checkpoint loads with the
        wrong order without an error, but its mattes are worse.
    """

    def __init__(self, backbone: Backbone, patch_order: PatchOrder) -> None:
        super().__init__()
        self.bb = Swin(backbone.channels, backbone.depths, backbone.heads, backbone.window)
        widths = [2 * backbone.channels * 2**level for level in range(4)]  # both passes of the backbone, concatenated
        self.squeeze_module = nn.ModuleList([DecoderBlock(sum(widths), widths[3])])
        self.decoder = Decoder(widths, patch_order)

    def forward(self, image: Tensor) -> Tensor:
        x1, x2, x3, x4 = self.features(image)
        x4 = self.squeeze_module[0](torch.cat([resize(x, x4) for x in (x1, x2, x3)] + [x4], 1))
        return self.decoder(image, x1, x2, x3, x4)

    def features(self, image: Tensor) -> list[Tensor]:
        """Backbone features of the image and of the image at half size, concatenated: four maps, from 1/4 to 1/32."""
        full = self.bb(image)
        half = self.bb(resize(image, image[..., ::2, ::2]))
        return [torch.cat((x, resize(y, x)), 1) for x, y in zip(full, half, strict=True)]


class Decoder(nn.Module):
    """Decoder from the features at 1/4 to 1/32 of the image's size to logits at its full size."""

    def __init__(self, widths: list[int], patch_order: PatchOrder) -> None:
        super().__init__()
        self.patch_order = patch_order
        w1, w2, w3, w4 = widths
        self.ipt_blk5 = PatchBlock(32, w4 // 8)
        self.ipt_blk4 = PatchBlock(16, w4 // 8)
        self.ipt_blk3 = PatchBlock(8, w3 // 8)
        self.ipt_blk2 = PatchBlock(4, w2 // 8)
        self.ipt_blk1 = PatchBlock(1, w1 // 8)
        self.decoder_block4 = DecoderBlock(w4 + w4 // 8, w3)
        self.decoder_block3 = DecoderBlock(w3 + w4 // 8, w2)
        self.decoder_block2 = DecoderBlock(w2 + w3 // 8, w1)
        self.decoder_block1 = DecoderBlock(w1 + w2 // 8, w1 // 2)
        self.lateral_block4 = Lateral(w3)
        self.lateral_block3 = Lateral(w2)
        self.lateral_block2 = Lateral(w1)
        for level, width in ((4, w3), (3, w2), (2, w1)):
            self.add_module(f"gdt_convs_{level}", nn.Sequential(*conv_norm_relu(width, 16, 3)))
            self.add_module(f"gdt_convs_attn_{level}", nn.Sequential(nn.Conv2d(16, 1, 1)))
        self.conv_out1 = nn.ModuleList([nn.Conv2d(w1 // 2 + w1 // 8, 1, 1)])

    def forward(self, image: Tensor, x1: Tensor, x2: Tensor, x3: Tensor, x4: Tensor) -> Tensor:
        x = x4
        for level, skip in ((4, x3), (3, x2), (2, x1)):
            x = self.get_submodule(f"decoder_block{level}")(self.with_patches(level + 1, x, image))
            x = x * self.attention(level, x)
            x = resize(x, skip) + self.get_submodule(f"lateral_block{level}")(skip)
        return self.project(self.with_patches(2, x, image), image)

    def with_patches(self, level: int, x: Tensor, image: Tensor) -> Tensor:
        """Concatenate `x` with the output of the level's patch block for the image, at the size of `x`."""
        patches = image_patches(image, x.shape[2], x.shape[3], self.patch_order)
        return torch.cat((x, self.get_submodule(f"ipt_blk{level}")(patches)), 1)

    def attention(self, level: int, x: Tensor) -> Tensor:
        """Attention map of a level, supervised by the image's gradients in training: float (N, 1, h, w) in [0, 1]."""
        return self.get_submodule(f"gdt_convs_attn_{level}")(self.get_submodule(f"gdt_convs_{level}")(x)).sigmoid()

    def project(self, x: Tensor, image: Tensor) -> Tensor:
        """Project the last features (N, C, H/4, W/4) and the image to logits (N, 1, H, W).

        As published, the features are upsampled to the image's size, concatenated with the output of `ipt_blk1` and projected
        to one channel. All of these steps are linear, so the projection is applied first: one channel is upsampled instead of
        192, and the last convolution of `ipt_blk1`, at full size, has one output channel instead of 48.
        """
        (last,) = self.conv_out1.children()
        assert isinstance(last, nn.Conv2d)
        channels = self.decoder_block1.conv_out.out_channels
        coarse = functional.conv2d(self.decoder_block1(x), last.weight[:, :channels], last.bias)
        weight = last.weight[:, channels:, 0, 0]
        detail = self.ipt_blk1.conv_out
        assert detail.bias is not None
        kernel = torch.tensordot(weight, detail.weight, 1)
        fine = functional.conv2d(self.ipt_blk1.conv1(image), kernel, weight @ detail.bias, padding=1)
        return resize(coarse, image) + fine


class DecoderBlock(nn.Module):
    """Reduction to 64 channels, deformable pyramid, expansion to the output channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(inputs, 64, 3, padding=1)
        self.bn_in = nn.BatchNorm2d(64)
        self.dec_att = DeformablePyramid()
        self.conv_out = nn.Conv2d(64, outputs, 3, padding=1)
        self.bn_out = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dec_att(functional.relu(self.bn_in(self.conv_in(x)), inplace=True))
        return self.bn_out(self.conv_out(x))


class DeformablePyramid(nn.Module):
    """Four deformable convolutions (1x1 twice, 3x3, 7x7) and global average pooling, projected back to 64 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.aspp1 = DeformableBlock(1)
        self.aspp_deforms = nn.ModuleList(DeformableBlock(size) for size in (1, 3, 7))
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *conv_norm_relu(64, 256, 1, bias=False))
        self.conv1 = nn.Conv2d(5 * 256, 64, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.global_avg_pool(x).expand(-1, -1, *x.shape[2:])
        branches = [self.aspp1(x), *(branch(x) for branch in self.aspp_deforms), mean]
        return functional.relu(self.bn1(self.conv1(torch.cat(branches, 1))), inplace=True)


class DeformableBlock(nn.Module):
    """Deformable convolution, batch norm, ReLU."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.atrous_conv = DeformableConv(64, 256, size)
        self.bn = nn.BatchNorm2d(256)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.atrous_conv(x)), inplace=True)


class PatchBlock(nn.Module):
    """Two 3x3 convolutions over the stacked patches of an image that is cut into `grid` x `grid`."""

    def __init__(self, grid: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3 * grid * grid, 64, 3, padding=1)
        self.conv_out = nn.Conv2d(64, outputs, 3, padding=1)

    def forward(self, patches: Tensor) -> Tensor:
        return self.conv_out(self.conv1(patches))


class Lateral(nn.Module):
    """Lateral connection from the backbone to the decoder: a 1x1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def conv_norm_relu(inputs: int, outputs: int, size: int, bias: bool = True) -> list[nn.Module]:
    """Layers of a convolution that keeps the size, a batch norm and a ReLU."""
    conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


def image_patches(image: Tensor, height: int, width: int, order: PatchOrder) -> Tensor:
    """Cut the image into patches of `height` x `width`, stacked as channels: (N, 3 * patches, height, width).

    The order "columns", of the older checkpoints, has channel = (column * rows + row) * 3 + color. The order "colors", of the
    newer ones, has channel = (color * rows + row) * columns + column.
    """
    batch, colors, full_height, full_width = image.shape
    rows, columns = full_height // height, full_width // width
    grid = image.reshape(batch, colors, rows, height, columns, width)
    axes = (0, 4, 2, 1, 3, 5) if order == "columns" else (0, 1, 2, 4, 3, 5)
    return grid.permute(axes).reshape(batch, -1, height, width)


def resize(x: Tensor, target: Tensor) -> Tensor:
    """Resize `x` to the height and width of `target`, bilinear with aligned corners."""
    if x.shape[2:] == target.shape[2:]:
        return x
    return functional.interpolate(x, size=target.shape[2:], mode="bilinear", align_corners=True)
