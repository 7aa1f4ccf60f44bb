"""Swin transformer, the backbone of BiRefNet.

Ze Liu, Yutong Lin, Yue Cao, Han Hu, Yixuan Wei, Zheng Zhang, Stephen Lin, Baining Guo:
"Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV 2021.

Feature maps have the layout (N, H, W, C) throughout. Images of any size are supported: a map is padded to whole windows, and
the padding takes part in attention as zeros, as in the authors' code for dense prediction. Module names are those of the
checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Window attention and an MLP, each with a residual connection; `shift` moves the windows."""

    def __init__(self, channels: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

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
        x = self.patch_embed(image)
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
