"""InSPyReNet with a Swin-B backbone, the network of transparent-background.

Taehun Kim, Kunhee Kim, Joonyeong Lee, Dongmin Cha, Jiho Lee, Daijin Kim: "Revisiting Image Pyramid Structure for High
Resolution Salient Object Detection", ACCV 2022.

The decoder predicts a coarse mask at 1/8 of the size and three Laplacians, from which an image pyramid reconstructs the mask at
full size. The paper blends the pyramids of two image sizes; its released package does not, and runs the network once. Module
names are those of the published checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from rmbg.networks.birefnet import SWIN_B, Swin, named
from rmbg.networks.birefnet import resize as resize_aligned
from rmbg.networks.isnet import resize_like

# Parts of the names of tensors in the checkpoints that inference does not need: index tables.
UNUSED = ("relative_position_index",)

CHANNELS = 64  # of all maps after the backbone


class InSPyReNet(nn.Module):
    """Segmentation network with a Swin backbone and a Laplacian pyramid.

    `forward` takes float (N, 3, H, W), normalized as in `rmbg.inference.catalog`, H and W multiples of 32, and returns the
    mask's logits, float (N, 1, H, W).

    Parameters
    ----------
    base_size : int
        Height and width of the images that the checkpoint was trained with. Maps are resized to it where a sum over all
        positions is taken, as the weights depend on the number of positions.
    """

    def __init__(self, base_size: int) -> None:
        super().__init__()
        self.backbone = Swin(*SWIN_B)
        widths = [SWIN_B.channels, *(SWIN_B.channels * 2**level for level in range(4))]
        for level, width in enumerate(widths, 1):
            self.add_module(f"context{level}", ContextEncoder(width))
        self.decoder = Decoder()
        self.attention2 = ContextAttention(2 * CHANNELS, base_size // 4, with_laplacian=False)
        self.attention1 = ContextAttention(2 * CHANNELS, base_size // 2, with_laplacian=True)
        self.attention0 = ContextAttention(CHANNELS, base_size, with_laplacian=True)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.backbone.patch_embed(image)
        features = [tokens.permute(0, 3, 1, 2), *self.backbone.stages(tokens)]
        x1, x2, x3, x4, x5 = (self.get_submodule(f"context{level}")(x) for level, x in enumerate(features, 1))
        x, mask = self.decoder(x3, x4, x5)
        x, laplacian = self.attention2(torch.cat((x2, resize_like(x, x2)), 1), mask)
        mask = expand(mask) + laplacian
        x = torch.cat((resize_like(x1, image[..., ::2, ::2]), resize_like(x, image[..., ::2, ::2])), 1)
        x, laplacian = self.attention1(x, mask, laplacian)
        mask = expand(mask) + laplacian
        _, laplacian = self.attention0(resize_like(x, image), mask, laplacian)
        return expand(mask) + laplacian


class AxialAttention(nn.Module):
    """Self-attention along one axis of a map, with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        self.query_conv = conv_norm(CHANNELS, CHANNELS // 8, 1)
        self.key_conv = conv_norm(CHANNELS, CHANNELS // 8, 1)
        self.value_conv = conv_norm(CHANNELS, CHANNELS, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, length: int) -> Tensor:
        """Attend among `length` positions, the height or the width of `x` (N, C, H, W).

        As published, the map is reshaped to rows of `length` values, not transposed. For a square map the height therefore
        gives the same positions as the width.
        """
        query, key, value = (conv(x).reshape(len(x), -1, length) for conv in (self.query_conv, self.key_conv, self.value_conv))
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        return self.gamma * (value @ weights.transpose(1, 2)).view(x.shape) + x


class AxialPair(nn.Module):
    """Base of the modules with attention along the height and along the width."""

    def __init__(self) -> None:
        super().__init__()
        self.Hattn = AxialAttention()
        self.Wattn = AxialAttention()

    def attend(self, x: Tensor) -> Tensor:
        """Sum of both attentions."""
        return self.Hattn(x, x.shape[2]) + self.Wattn(x, x.shape[3])


class ContextBranch(AxialPair):
    """Separable convolution of a size, attention along both axes, dilated convolution."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.conv0 = conv_norm(inputs, CHANNELS, 1)
        self.conv1 = conv_norm(CHANNELS, CHANNELS, (1, size))
        self.conv2 = conv_norm(CHANNELS, CHANNELS, (size, 1))
        self.conv3 = conv_norm(CHANNELS, CHANNELS, 3, dilation=size)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.attend(self.conv2(self.conv1(self.conv0(x)))))


class ContextEncoder(nn.Module):
    """Reduction of a backbone map to 64 channels, with context from branches of three sizes (PAA-e in the paper)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch0 = conv_norm(inputs, CHANNELS, 1)
        self.branch1 = ContextBranch(inputs, 3)
        self.branch2 = ContextBranch(inputs, 5)
        self.branch3 = ContextBranch(inputs, 7)
        self.conv_cat = conv_norm(4 * CHANNELS, CHANNELS, 3)
        self.conv_res = conv_norm(inputs, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)
        return functional.relu(self.conv_cat(torch.cat(branches, 1)) + self.conv_res(x))


class Decoder(AxialPair):
    """Features and coarse logits from the three smallest maps, at the size of the largest of them (PAA-d)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv_norm(3 * CHANNELS, CHANNELS, 3)
        self.conv2 = conv_norm(CHANNELS, CHANNELS, 3)
        self.conv3 = conv_norm(CHANNELS, CHANNELS, 3)
        self.conv4 = conv_norm(CHANNELS, CHANNELS, 3)
        self.conv5 = named(conv=nn.Conv2d(CHANNELS, 1, 3, padding=1, bias=False))

    def forward(self, x3: Tensor, x4: Tensor, x5: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv1(torch.cat((resize_aligned(x5, x3), resize_aligned(x4, x3), x3), 1))
        x = self.conv4(self.conv3(self.conv2(self.attend(x))))
        return x, self.conv5(x)


class ContextAttention(nn.Module):
    """Refined features and a Laplacian, from attention to a few regions of the image (SICA in the paper).

    The regions are soft: foreground, background and uncertain parts of the mask so far, and those of the previous Laplacian.

    Parameters
    ----------
    inputs : int
    base_size : int
        Height and width of the maps at which the features of a region are summed.
    with_laplacian : bool
        False for the first level of the pyramid.
    """

    def __init__(self, inputs: int, base_size: int, with_laplacian: bool) -> None:
        super().__init__()
        self.base_size = base_size
        self.threshold = nn.Parameter(torch.zeros(1))
        if with_laplacian:
            self.lthreshold = nn.Parameter(torch.zeros(1))
        for name, size in (("query", 3), ("key", 1), ("value", 1)):
            first, second = conv_norm(inputs, CHANNELS, size, relu=True), conv_norm(CHANNELS, CHANNELS, size, relu=True)
            self.add_module(f"conv_{name}", nn.Sequential(first, second))
        self.conv_out1 = conv_norm(CHANNELS, CHANNELS, 3, relu=True)
        self.conv_out2 = conv_norm(inputs + CHANNELS, CHANNELS, 3, relu=True)
        self.conv_out3 = conv_norm(CHANNELS, CHANNELS, 3, relu=True)
        self.conv_out4 = conv_norm(CHANNELS, 1, 1)

    def forward(self, x: Tensor, mask: Tensor, laplacian: Tensor | None = None) -> tuple[Tensor, Tensor]:
        above = resize_like(mask, x).sigmoid() - self.threshold
        regions = [above.clamp(0, 1), (-above).clamp(0, 1), self.threshold - above.abs()]
        if laplacian is not None:
            above = resize_like(laplacian, x).sigmoid() - self.lthreshold
            regions += [above.clamp(0, 1), (-above).clamp(0, 1)]
        sums = self.region_sums(x, torch.cat(regions, 1))
        inputs = {"query": x, "key": sums, "value": sums}
        query, key, value = (self.get_submodule(f"conv_{name}")(y).flatten(2) for name, y in inputs.items())
        weights = (CHANNELS**-0.5 * (query.transpose(1, 2) @ key)).softmax(-1)
        context = (value @ weights.transpose(1, 2)).view(len(x), CHANNELS, *x.shape[2:])
        x = self.conv_out3(self.conv_out2(torch.cat((x, self.conv_out1(context)), 1)))
        return x, self.conv_out4(x)

    def region_sums(self, x: Tensor, regions: Tensor) -> Tensor:
        """Weighted sums of the features over each region: (N, C, regions, 1).

        As published, the features (N, C, H, W) are reshaped to (N, H * W, C), not transposed.
        """
        size = (self.base_size, self.base_size)
        if x.shape[2:] != size:
            x, regions = (functional.interpolate(y, size=size, mode="bilinear") for y in (x, regions))
        features = x.reshape(len(x), -1, x.shape[1])
        return (regions.flatten(2) @ features).transpose(1, 2).unsqueeze(3)


def conv_norm(inputs: int, outputs: int, size: int | tuple[int, int], dilation: int = 1, relu: bool = False) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, and a ReLU where `relu` is set."""
    height, width = (size, size) if isinstance(size, int) else size
    padding = dilation * (height // 2), dilation * (width // 2)
    conv = nn.Conv2d(inputs, outputs, (height, width), padding=padding, dilation=dilation, bias=False)
    layers = {"conv": conv, "bn": nn.BatchNorm2d(outputs)}
    return named(**layers, relu=nn.ReLU(inplace=True)) if relu else named(**layers)


def expand(x: Tensor) -> Tensor:
    """Upsample by two as in a Laplacian pyramid: zeros between the pixels, then a Gaussian blur of 7x7."""
    batch, channels, height, width = x.shape
    sparse = x.new_zeros(batch, channels, 2 * height, 2 * width)
    sparse[..., ::2, ::2] = x
    kernel = 4 * gaussian().to(x)
    return functional.conv2d(functional.pad(sparse, (3, 3, 3, 3), mode="reflect"), kernel)


def gaussian() -> Tensor:
    """Gaussian kernel with a standard deviation of one pixel: float (1, 1, 7, 7)."""
    weights = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / 2)
    weights = weights / weights.sum()
    return torch.outer(weights, weights)[None, None]
