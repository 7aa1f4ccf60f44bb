"""MVANet, the network of Finegrain's box segmenter, and BEN2, which has other normalizations and activations.

Qian Yu, Xiaoqi Zhao, Youwei Pang, Lihe Zhang, Huchuan Lu: "Multi-view Aggregation Network for Dichotomous Image Segmentation",
CVPR 2024. Maxwell Meyer, Jack Spruyt: "BEN: Using Confidence-Guided Matting for Dichotomous Image Segmentation",
arXiv 2501.06230.

Five views of the image go through the backbone: its quarters, and the whole of it at half the size. In the decoder, the whole
attends to the quarters and the quarters to the whole. Module names are those of MVANet's checkpoints, which BEN2's has as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from rmbg.networks.birefnet import SWIN_B, Swin
from rmbg.networks.isnet import resize_like

T = TypeVar("T")

# Parts of the names of tensors in the checkpoints that inference does not need: auxiliary training heads and index tables.
UNUSED = ("sideout", "relative_position_index")

CHANNELS = 128  # of the decoder

# Divisors of a view's height and width: the sizes that other views are pooled to before the attention to them.
LOCALIZATION_RATIOS = (1, 4, 8)
REFINEMENT_RATIOS = (2, 4, 8)


class Variant(NamedTuple):
    """Layers in which the two networks differ."""

    norm: type[nn.Module]
    activation: type[nn.Module]  # after a convolution
    mlp_activation: type[nn.Module]


MVANET = Variant(nn.BatchNorm2d, nn.PReLU, nn.ReLU)
BEN2 = Variant(nn.InstanceNorm2d, nn.GELU, nn.GELU)


class MVANet(nn.Module):
    """Segmentation network with a Swin-B backbone.

    `forward` takes float (N, 3, H, W), normalized as in `rmbg.inference.catalog`, H and W multiples of 128, and returns the
    mask's logits, float (N, 1, H, W). The checkpoints were trained at 1024.

    Parameters
    ----------
    variant : Variant
        `MVANET` or `BEN2`.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        upsampling = variant._replace(activation=nn.GELU)
        self.backbone = Swin(*SWIN_B)
        for level, inputs in enumerate((128, 128, 256, 512, 1024), 1):
            self.add_module(f"output{level}", nn.Sequential(*block(inputs, CHANNELS, variant)))
        self.multifieldcrossatt = Localization(variant)
        for level in range(1, 5):
            self.add_module(f"dec_blk{level}", Refinement(variant))
            self.add_module(f"conv{level}", nn.Sequential(*block(CHANNELS, CHANNELS, variant)))
        self.insmask_head = nn.Sequential(
            *block(CHANNELS, 3 * CHANNELS, variant),
            *block(3 * CHANNELS, 3 * CHANNELS, variant),
            nn.Conv2d(3 * CHANNELS, CHANNELS, 3, padding=1),
        )
        self.shallow = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1))
        self.upsample1 = nn.Sequential(*block(CHANNELS, CHANNELS, upsampling))
        self.upsample2 = nn.Sequential(*block(CHANNELS, CHANNELS, upsampling))
        self.output = nn.Sequential(nn.Conv2d(CHANNELS, 1, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        half = functional.interpolate(image, scale_factor=0.5, mode="bilinear")
        embedded = self.backbone.patch_embed(torch.cat((split(image), half)))
        features = [embedded.permute(0, 3, 1, 2), *self.backbone.stages(embedded)]
        x1, x2, x3, x4, x5 = (self.get_submodule(f"output{level}")(x) for level, x in enumerate(features, 1))
        x = self.multifieldcrossatt(x5)
        for level, skip in ((4, x4), (3, x3), (2, x2), (1, x1)):
            x = self.get_submodule(f"dec_blk{level}")(skip + resize_like(x, skip))
            x = self.get_submodule(f"conv{level}")(x)
        quarters, whole = separate(x)
        x = join(quarters)
        x = self.insmask_head(x + resize_like(whole, x))
        detail = self.shallow(image)
        x = self.upsample1(double(x + resize_like(detail, x)))
        return self.output(self.upsample2(double(x + resize_like(detail, x))))


class CrossAttention(nn.Module):
    """Attention between views, and an MLP, each with a residual connection and followed by a layer norm."""

    def __init__(self, attentions: int, variant: Variant) -> None:
        super().__init__()
        self.attention = nn.ModuleList(nn.MultiheadAttention(CHANNELS, 1, batch_first=True) for _ in range(attentions))
        self.linear3 = nn.Linear(CHANNELS, 2 * CHANNELS)
        self.linear4 = nn.Linear(2 * CHANNELS, CHANNELS)
        self.norm1 = nn.LayerNorm(CHANNELS)
        self.norm2 = nn.LayerNorm(CHANNELS)
        self.activation = variant.mlp_activation()

    def attend_by_quarter(self, x: Tensor, keys: Tensor) -> Tensor:
        """Tokens of the quarters (4 N, tokens, C) after the attention of each to its part of `keys` (4 N, keys, C)."""
        each = zip(self.attention[-4:], x.chunk(4), keys.chunk(4), strict=True)
        attended = torch.cat([attend(attention, query, key, key) for attention, query, key in each])
        return self.update(x, attended, self.linear3, self.linear4)

    def update(self, x: Tensor, attended: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
        """Add `attended`, and the output of an MLP, to tokens."""
        x = self.norm1(x + attended)
        return self.norm2(x + second(self.activation(first(x))))


class Localization(CrossAttention):
    """Coarsest level: the whole attends to the quarters, then each quarter to its part of the whole."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(5, variant)
        self.linear1 = nn.Linear(CHANNELS, 2 * CHANNELS)
        self.linear2 = nn.Linear(2 * CHANNELS, CHANNELS)

    def forward(self, views: Tensor) -> Tensor:
        quarters, whole = separate(views)
        height, width = views.shape[2:]
        sizes = pooled_sizes(height, width, LOCALIZATION_RATIOS)
        pools = pool(join(quarters), sizes)
        query = tokens(whole) + positions(height, width).to(whole)
        key = pools + torch.cat([positions(*size) for size in sizes]).to(whole)
        x = self.update(tokens(whole), attend(self.attention[0], query, key, pools), self.linear1, self.linear2)
        whole = x.transpose(1, 2).view(whole.shape)
        x = self.attend_by_quarter(tokens(quarters), tokens(split(whole)))
        return torch.cat((x.transpose(1, 2).view(quarters.shape), whole))


class Refinement(CrossAttention):
    """Finer level: each quarter attends to its pooled part of the whole, and is added to the whole."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(4, variant)
        self.sal_conv = nn.Conv2d(CHANNELS, 1, 1)

    def forward(self, views: Tensor) -> Tensor:
        quarters, whole = separate(views)
        quarters = quarters * split(double(self.sal_conv(whole).sigmoid()))
        height, width = views.shape[2:]
        keys = pool(split(whole), pooled_sizes(height, width, REFINEMENT_RATIOS))
        x = self.attend_by_quarter(tokens(quarters), keys)
        quarters = x.transpose(1, 2).view(quarters.shape)
        return torch.cat((quarters, whole + join(quarters)[..., ::2, ::2]))


def block(inputs: int, outputs: int, variant: Variant) -> list[nn.Module]:
    """Layers of a 3x3 convolution that keeps the size, a normalization and an activation."""
    return [nn.Conv2d(inputs, outputs, 3, padding=1), variant.norm(outputs), variant.activation()]


def attend(attention: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Output of an attention module for tokens (N, tokens, C)."""
    return attention(query, key, value, need_weights=False)[0]


def split(image: Tensor) -> Tensor:
    """Quarters of a map (N, C, H, W), row by row: (4 N, C, H/2, W/2)."""
    return torch.cat([quarter for half in image.chunk(2, 2) for quarter in half.chunk(2, 3)])


def join(quarters: Tensor) -> Tensor:
    """Inverse of `split`."""
    return torch.cat([torch.cat(half.chunk(2), 3) for half in quarters.chunk(2)], 2)


def separate(views: Tensor) -> tuple[Tensor, Tensor]:
    """The quarters (4 N, C, h, w) and the whole (N, C, h, w) of all views (5 N, C, h, w)."""
    count = len(views) // 5
    return views[: 4 * count], views[4 * count :]


def double(x: Tensor) -> Tensor:
    """Upsampling by two with repeated pixels."""
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def tokens(x: Tensor) -> Tensor:
    """Pixels of a map (N, C, h, w) as tokens (N, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def pooled_sizes(height: int, width: int, ratios: Iterable[int]) -> list[tuple[int, int]]:
    """Heights and widths that a map is pooled to; zero if a small map is not pooled by a ratio."""
    return [(round(height / ratio), round(width / ratio)) for ratio in ratios]


def pool(x: Tensor, sizes: Iterable[tuple[int, int]]) -> Tensor:
    """Tokens (N, tokens, C) of a map (N, C, h, w) that is averaged to each of the sizes."""
    return torch.cat([tokens(functional.adaptive_avg_pool2d(x, size)) for size in sizes], 1)


def positions(height: int, width: int) -> Tensor:
    """Sine encoding of the rows, then of the columns, of a map: float32 (height * width, C).

    Nicolas Carion et al.: "End-to-End Object Detection with Transformers", ECCV 2020, appendix A.4.
    """
    half = CHANNELS // 2
    period = 10000 ** (torch.arange(half) // 2 * 2 / half)
    even = torch.arange(half) % 2 == 0

    def encode(length: int) -> Tensor:
        angle = ((torch.arange(length) + 0.5) / (length + 1e-6) * 2 * math.pi)[:, None] / period
        return torch.where(even, angle.sin(), angle.cos())

    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    return torch.cat((rows, columns), 2).flatten(0, 1)


# Names in the checkpoints of refiners, the library of Finegrain.

#: Patterns of parts of the names, and what they are called in MVANet's checkpoints; applied in this order.
REFINERS_NAMES = (
    (r"^SwinTransformer\.PatchEmbedding\.Conv2d", "backbone.patch_embed.proj"),
    (r"^SwinTransformer\.PatchEmbedding\.LayerNorm", "backbone.patch_embed.norm"),
    (r"^SwinTransformer\.Chain_(\d)\.Passthrough\.LayerNorm", r"backbone.norm<\1>"),
    (r"^SwinTransformer\.Chain_(\d)", r"backbone.layers.<\1>"),
    (r"PatchMerging\.LayerNorm", "downsample.norm"),
    (r"PatchMerging\.Linear", "downsample.reduction"),
    (r"BasicLayer\.SwinTransformerBlock_(\d+)", r"blocks.<\1>"),
    (r"Residual_(\d)\.LayerNorm", r"norm\1"),
    (r"Residual_1\.WindowAttention\.Linear_1", "attn.qkv"),
    (r"Residual_1\.WindowAttention\.Linear_2", "attn.proj"),
    (r"Residual_1\.WindowAttention\.WindowSDPA\.rpb", "attn"),
    (r"Residual_2\.Linear_(\d)", r"mlp.fc\1"),
    (r"^Pyramid\.(?:Sum\.PyramidL\d\.)*Sum\.PyramidL(\d)", r"level\1"),
    (r"^Pyramid", "level1"),
    (r"level(\d)\.Sum\.Chain\.CBR|level(5)\.CBR", r"output\1\2"),
    (r"level(\d)\.CBR", r"conv\1"),
    (r"level(\d)\.MCRM", r"dec_blk\1"),
    (r"level5\.MCLM", "multifieldcrossatt"),
    (r"GlobalAttention\.Sum\.Chain\.MultiheadAttention", "attention.0"),
    (r"Residual\.PatchwiseCrossAttention\.Concatenate\.Chain_(\d)\.MultiheadAttention", r"attention.\1"),
    (r"Parallel_2\.Multiply\.Chain\.Conv2d", "sal_conv"),
    (r"Parallel_3\.TiledCrossAttention\.", ""),
    (r"Sum\.Chain_2\.PatchwiseCrossAttention\.Concatenate\.Chain_(\d)\.MultiheadAttention", r"attention.<\1>"),
    (r"FeedForward_1\.Linear_(\d)", r"linear\1"),
    (r"FeedForward(?:_2)?\.Linear_1", "linear3"),
    (r"FeedForward(?:_2)?\.Linear_2", "linear4"),
    (r"LayerNorm_(\d)", r"norm\1"),
    (r"^RearrangeMultiView\.Chain\.CBR_1", "insmask_head"),
    (r"^RearrangeMultiView\.Chain\.CBR_2\.Conv2d", "insmask_head.3"),
    (r"^RearrangeMultiView\.Chain\.CBR_2\.BatchNorm2d", "insmask_head.4"),
    (r"^RearrangeMultiView\.Chain\.CBR_2\.PReLU", "insmask_head.5"),
    (r"^RearrangeMultiView\.Chain\.Conv2d", "insmask_head.6"),
    (r"^ComputeShallow", "shallow"),
    (r"^ShallowUpscaler\.Sum_2\.Chain_1\.CBG", "upsample1"),
    (r"^ShallowUpscaler\.CBG", "upsample2"),
    (r"^Conv2d", "output.0"),
    (r"Conv2d", "0"),
    (r"BatchNorm2d", "1"),
    (r"PReLU", "2"),
    (r"<(\d+)>", lambda match: str(int(match[1]) - 1)),  # refiners counts from 1
)


def rename(tensors: Mapping[str, T]) -> dict[str, T]:
    """Checkpoint with the names of MVANet, of one that has these or the names of refiners."""
    return {_renamed(name): value for name, value in tensors.items()}


def _renamed(name: str) -> str:
    for pattern, replacement in REFINERS_NAMES:
        name = re.sub(pattern, replacement, name)
    return name
