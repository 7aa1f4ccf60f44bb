"""Network of the built-in provider: predicts a matte and its own IoU.

A residual encoder of plain 3x3 convolutions (He et al., "Deep Residual Learning", CVPR 2016), pyramid pooling at its
end (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017) and a light top-down decoder with skip connections
(Lin et al., "Feature Pyramid Networks", CVPR 2017). Convolutions are dense, because depthwise ones save multiplications
but not time on a CPU. The photo is resized to a square without keeping its proportions, as in training.

The weights were trained from scratch by ``train/train.py``; ``train/README.md`` is their model card.
"""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load as read_tensors
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

INPUT_SIZE = 320
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
WEIGHTS = Path(__file__).with_name("builtin.safetensors")
SHA256 = "a6102965a02877b35d6f7c1ebd5537dc9b1737804f9ca75eb012d933a325c626"

STEM = 16
WIDTHS = (64, 96, 192, 256)  # channels at 1/4, 1/8, 1/16 and 1/32
DEPTHS = (1, 3, 4, 2)  # residual blocks at each
CONTEXT = 128  # channels of the pooled features at 1/32
POOLS = (1, 2, 5)  # grids of the pyramid pooling
DECODER = (32, 64, 96)  # channels at 1/4, 1/8 and 1/16
FOREGROUND = 0.5  # probability above which a pixel counts as foreground


class ConvNorm(nn.Module):
    """Convolution, batch norm and, by default, a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x, inplace=True) if self.relu else x

    def fuse(self) -> None:
        """Fold the batch norm into the convolution. The module cannot be trained afterwards."""
        assert isinstance(self.norm, nn.BatchNorm2d)
        self.conv = fuse_conv_bn_eval(self.conv, self.norm)
        self.norm = nn.Identity()


class Residual(nn.Module):
    """Residual block of two convolutions; the shortcut pools and projects if the size or the channels change."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, stride=stride)
        self.second = ConvNorm(outputs, outputs, relu=False)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else ConvNorm(inputs, outputs, 1, relu=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.stride == 1 else F.avg_pool2d(x, self.stride)
        return F.relu(self.second(self.first(x)) + self.shortcut(shortcut), inplace=True)


class PyramidPooling(nn.Module):
    """Features concatenated with their averages over grids of 1x1, 2x2 and 5x5 cells, projected to `outputs`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        branch = inputs // 4
        self.branches = nn.ModuleList(nn.Conv2d(inputs, branch, 1) for _ in POOLS)
        self.merge = ConvNorm(inputs + branch * len(POOLS), outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x]
        for size, branch in zip(POOLS, self.branches, strict=True):
            pooled = F.relu(branch(F.adaptive_avg_pool2d(x, size)))
            parts.append(F.interpolate(pooled, x.shape[-2:], mode="bilinear"))
        return self.merge(torch.cat(parts, 1))


class Merge(nn.Module):
    """Decoder step: the sum of upsampled coarse features and the encoder's finer ones, then two convolutions."""

    def __init__(self, coarse: int, fine: int, outputs: int) -> None:
        super().__init__()
        self.coarse = ConvNorm(coarse, outputs, 1, relu=False)
        self.fine = ConvNorm(fine, outputs, 1, relu=False)
        self.first = ConvNorm(outputs, outputs)
        self.second = ConvNorm(outputs, outputs)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        up = F.interpolate(self.coarse(coarse), fine.shape[-2:], mode="bilinear")
        return self.second(self.first(F.relu(up + self.fine(fine), inplace=True)))


class BuiltinNet(nn.Module):
    """Matting network with 5.7 million parameters.

    Examples
    --------
    >>> net = load()
    >>> logits, confidence = net(torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE))
    >>> logits.shape, confidence.shape
    (torch.Size([1, 1, 320, 320]), torch.Size([1]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, stride=2)
        self.stages = nn.ModuleList()
        inputs = STEM
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            blocks = [Residual(inputs, width, 2), *(Residual(width, width) for _ in range(depth - 1))]
            self.stages.append(nn.Sequential(*blocks))
            inputs = width
        self.context = PyramidPooling(WIDTHS[-1], CONTEXT)
        self.merge16 = Merge(CONTEXT, WIDTHS[2], DECODER[2])
        self.merge8 = Merge(DECODER[2], WIDTHS[1], DECODER[1])
        self.merge4 = Merge(DECODER[1], WIDTHS[0], DECODER[0])
        self.merge2 = Merge(DECODER[0], STEM, STEM)
        self.matte = nn.Conv2d(STEM, 1, 3, padding=1)
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in (*DECODER, CONTEXT))
        self.judge = nn.Sequential(nn.Linear(2 * CONTEXT + 3, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict mattes and confidences of a batch.

        Parameters
        ----------
        x : Tensor, shape (B, 3, H, W), float
            RGB in [0, 1], normalized by ``MEAN`` and ``STD``; H and W multiples of 32, in training both ``INPUT_SIZE``.

        Returns
        -------
        logits : Tensor, shape (B, 1, H, W)
            Their sigmoid is the matte.
        confidence : Tensor, shape (B,)
            Predicted IoU of the matte in [0, 1]; near 0 if there is no clear subject.
        """
        logits, _, confidence = self.forward_train(x)
        return logits, confidence.sigmoid()

    def forward_train(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits of the matte, of the side outputs at 1/4, 1/8, 1/16 and 1/32, and of the confidence."""
        half = self.stem(x)
        quarter = self.stages[0](half)
        eighth = self.stages[1](quarter)
        sixteenth = self.stages[2](eighth)
        context = self.context(self.stages[3](sixteenth))
        at16 = self.merge16(context, sixteenth)
        at8 = self.merge8(at16, eighth)
        at4 = self.merge4(at8, quarter)
        at2 = self.matte(self.merge2(at4, half))
        logits = F.interpolate(at2, x.shape[-2:], mode="bilinear")
        sides = [side(level) for side, level in zip(self.sides, (at4, at8, at16, context), strict=True)]
        return logits, sides, self.judge(self.confidence_features(at2, context)).squeeze(1)

    def confidence_features(self, logits: Tensor, context: Tensor) -> Tensor:
        """Inputs of the confidence head: mean features inside and outside the matte, its area and its uncertainty.

        Float (B, 2 * CONTEXT + 3). Detached, so that the confidence loss does not change the matte.
        """
        matte = logits.detach().float().sigmoid()
        small = F.adaptive_avg_pool2d(matte, (context.shape[-2], context.shape[-1]))
        features = context.detach().float()
        inside = (features * small).sum((2, 3)) / (small.sum((2, 3)) + 1)
        outside = (features * (1 - small)).sum((2, 3)) / ((1 - small).sum((2, 3)) + 1)
        area = matte.mean((2, 3))
        uncertainty = (1 - (2 * matte - 1).abs()).mean((2, 3))
        strength = (matte * (matte > FOREGROUND)).sum((2, 3)) / (matte.sum((2, 3)) + 1)
        return torch.cat([inside, outside, area, uncertainty, strength], 1)

    def fuse(self) -> "BuiltinNet":
        """Fold all batch norms into their convolutions in place and return the network, which is then for inference only."""
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        return self


def load(path: Path | None = None) -> BuiltinNet:
    """Load the trained network for inference: eval mode, float32, channels last.

    The file holds the convolutions in half precision with their batch norms folded in.

    Parameters
    ----------
    path : Path, optional
        Other weights than those in the package; only the packaged file is checked against its checksum.

    Raises
    ------
    ValueError
        If the checksum of the packaged file does not match.
    """
    data = (path or WEIGHTS).read_bytes()
    if path is None and hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{WEIGHTS} is damaged or belongs to another version")
    net = BuiltinNet().fuse()
    net.load_state_dict({name: tensor.float() for name, tensor in read_tensors(data).items()})
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return, unused-ignore]
