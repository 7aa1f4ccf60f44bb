"""BiRefNet, the network of RMBG-2.0, BiRefNet and BiRefNet_lite, with its deformable convolution and Swin transformer.

Deformable convolution is in plain torch operations: torchvision has it as a compiled operator, which does not run on all
devices and is a large dependency for one function. Xizhou Zhu, Han Hu, Stephen Lin, Jifeng Dai: "Deformable ConvNets v2: More
Deformable, Better Results", CVPR 2019.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal, NamedTuple

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


# Swin transformer, the backbone of BiRefNet.


def named(**modules: nn.Module) -> nn.Sequential:
    """Modules in sequence, with the names of their weights in the checkpoints."""
    return nn.Sequential(OrderedDict(modules))


class WindowAttention(nn.Module):
    """Multi-head attention inside each window, with a learned bias for relative positions."""

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions(window), persistent=False)

    def bias(self) -> Tensor:
        """Bias of the attention logits for the relative position of two tokens: float (heads, tokens, tokens)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        """Attend within `windows` (N * count, tokens, C); `mask` (count, tokens, tokens) is added to the logits."""
        batch, tokens, channels = windows.shape
        query, key, value = self.qkv(windows).view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = self.bias().unsqueeze(0)
        if mask is not None:
            bias = bias + mask.unsqueeze(1).to(bias.dtype)
            if batch > len(mask):
                bias = bias.repeat(batch // len(mask), 1, 1, 1)
        x = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, channels))


class Block(nn.Module):
    """Window attention and an MLP, each with a residual connection; `shift` moves the windows."""

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = named(fc1=nn.Linear(channels, 4 * channels), gelu=nn.GELU(), fc2=nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        size, shift = self.window, self.shift
        rows, columns = -(-height // size), -(-width // size)
        y = functional.pad(self.norm1(x), (0, 0, 0, columns * size - width, 0, rows * size - height))
        if shift:
            y = torch.roll(y, (-shift, -shift), (1, 2))
        y = y.view(batch, rows, size, columns, size, channels).transpose(2, 3)
        y = self.attn(y.reshape(-1, size * size, channels), mask if shift else None)
        y = y.view(batch, rows, columns, size, size, channels).transpose(2, 3)
        y = y.reshape(batch, rows * size, columns * size, channels)
        if shift:
            y = torch.roll(y, (shift, shift), (1, 2))
        x = x + y[:, :height, :width]
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Downsampling by two: the pixels of each 2x2 are concatenated and projected to twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Stage(nn.Module):
    """Blocks at one resolution, every second one with shifted windows, and the downsampling that follows them."""

    def __init__(self, channels: int, blocks: int, heads: int, window: int, last: bool) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(Block(channels, heads, window, i % 2 * (window // 2)) for i in range(blocks))
        self.downsample = None if last else PatchMerging(channels)

    def forward(self, x: Tensor) -> Tensor:
        mask = shifted_window_mask(x.shape[1], x.shape[2], self.window, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class PatchEmbed(nn.Module):
    """Projection of each 4x4 pixels of the image to one token."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, 4, stride=4)
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        image = functional.pad(image, (0, -image.shape[3] % 4, 0, -image.shape[2] % 4))
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class Swin(nn.Module):
    """Backbone with four feature maps.

    `forward` takes float (N, 3, H, W) and returns float (N, C, H/4, W/4), (N, 2C, H/8, W/8), (N, 4C, H/16, W/16) and
    (N, 8C, H/32, W/32).
    """

    def __init__(self, channels: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(channels)
        self.layers = nn.ModuleList()
        for level, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            width = channels * 2**level
            self.layers.append(Stage(width, depth, count, window, last=level == len(depths) - 1))
            self.add_module(f"norm{level}", nn.LayerNorm(width))

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.stages(self.patch_embed(image))

    def stages(self, x: Tensor) -> list[Tensor]:
        """The feature maps of tokens (N, H/4, W/4, C)."""
        features = []
        for level, stage in enumerate(self.layers):
            assert isinstance(stage, Stage)
            x = stage(x)
            features.append(self.get_submodule(f"norm{level}")(x).permute(0, 3, 1, 2))
            if stage.downsample is not None:
                x = stage.downsample(x)
        return features


def relative_positions(window: int) -> Tensor:
    """Row of the bias table for the relative position of two tokens of a window: int64 (tokens, tokens)."""
    token = torch.arange(window * window, device="cpu")  # a real tensor, even under torch.device("meta")
    row, column = token // window, token % window
    down = row[:, None] - row[None, :] + window - 1
    right = column[:, None] - column[None, :] + window - 1
    return down * (2 * window - 1) + right


def shifted_window_mask(height: int, width: int, window: int, device: torch.device | None = None) -> Tensor:
    """Attention mask for shifted windows: float (windows, tokens, tokens), -100 where attention is suppressed, else 0.

    The shift is cyclic, so the last row and column of windows contain tokens from opposite ends of the map, which must not
    attend to each other. `height` and `width` are those of the map before padding.
    """
    shift = window // 2

    def regions(length: int) -> Tensor:
        """Index of the strip that each position belongs to: 0 unshifted, 1 before the seam, 2 after it."""
        position = torch.arange(-(-length // window) * window, device=device)
        return (position >= len(position) - window).long() + (position >= len(position) - shift)

    region = regions(height)[:, None] * 3 + regions(width)[None, :]
    rows, columns = region.shape[0] // window, region.shape[1] // window
    region = region.view(rows, window, columns, window).transpose(1, 2).reshape(rows * columns, -1)
    return (region[:, :, None] != region[:, None, :]) * -100.0


# BiRefNet.


# Parts of the names of tensors in the checkpoints that inference does not need: auxiliary training heads and index tables.
UNUSED = ("decoder.conv_ms_spvn_", "decoder.gdt_convs_pred_", "relative_position_index")

PatchOrder = Literal["columns", "colors"]


class Backbone(NamedTuple):
    """Hyperparameters of a Swin transformer."""

    channels: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int


SWIN_B = Backbone(128, (2, 2, 18, 2), (4, 8, 16, 32), 12)
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
        self.bb = Swin(*backbone)
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
        self.ipt_blk5 = patch_block(32, w4 // 8)
        self.ipt_blk4 = patch_block(16, w4 // 8)
        self.ipt_blk3 = patch_block(8, w3 // 8)
        self.ipt_blk2 = patch_block(4, w2 // 8)
        self.ipt_blk1 = patch_block(1, w1 // 8)
        self.decoder_block4 = DecoderBlock(w4 + w4 // 8, w3)
        self.decoder_block3 = DecoderBlock(w3 + w4 // 8, w2)
        self.decoder_block2 = DecoderBlock(w2 + w3 // 8, w1)
        self.decoder_block1 = DecoderBlock(w1 + w2 // 8, w1 // 2)
        self.lateral_block4 = named(conv=nn.Conv2d(w3, w3, 1))
        self.lateral_block3 = named(conv=nn.Conv2d(w2, w2, 1))
        self.lateral_block2 = named(conv=nn.Conv2d(w1, w1, 1))
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
        detail: Any = self.ipt_blk1
        kernel = torch.tensordot(weight, detail.conv_out.weight, 1)
        fine = functional.conv2d(detail.conv1(image), kernel, weight @ detail.conv_out.bias, padding=1)
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


def patch_block(grid: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions over the stacked patches of an image that is cut into `grid` x `grid`."""
    return named(conv1=nn.Conv2d(3 * grid * grid, 64, 3, padding=1), conv_out=nn.Conv2d(64, outputs, 3, padding=1))


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
