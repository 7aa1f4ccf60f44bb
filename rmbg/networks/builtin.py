"""Network of the built-in provider: predicts a matte and its own IoU.

A residual encoder of plain 3x3 convolutions (He et al., "Deep Residual Learning", CVPR 2016), pyramid pooling at its
end (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017) and a light top-down decoder with skip connections
(Lin et al., "Feature Pyramid Networks", CVPR 2017). Convolutions are dense, because depthwise ones save multiplications
but not time on a CPU. The photo is resized to a square without keeping its proportions, as in training.

The weights were trained from scratch by ``train/train.py``; ``train/README.md`` is their model card.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from rmbg.networks.builtin_spec import CONTEXT, DECODER, DEPTHS, FOREGROUND, POOLS, STEM, WIDTHS, read_weights


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

    def forward(self, coarse: Tensor, fine: Tensor, extra: Tensor | None = None) -> Tensor:
        total = F.interpolate(self.coarse(coarse), fine.shape[-2:], mode="bilinear") + self.fine(fine)
        if extra is not None:
            total = total + extra
        return self.second(self.first(F.relu(total, inplace=True)))


class BuiltinNet(nn.Module):
    """Matting network with 5.7 million parameters.

    Examples
    --------
    >>> net = load()
    >>> logits, confidence = net(torch.zeros(1, 3, 384, 384))
    >>> logits.shape, confidence.shape
    (torch.Size([1, 1, 384, 384]), torch.Size([1]))
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
            RGB in [0, 1], normalized by ``MEAN`` and ``STD`` of ``builtin_spec``; H and W multiples of 32, in training up
            to ``INPUT_SIZE``.

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
        half, quarter, eighth, sixteenth, context = self.encode(x)
        at16 = self.merge16(context, sixteenth)
        at8 = self.merge8(at16, eighth)
        at4 = self.merge4(at8, quarter)
        at2 = self.matte(self.merge2(at4, half))
        logits = F.interpolate(at2, x.shape[-2:], mode="bilinear")
        sides = [side(level) for side, level in zip(self.sides, (at4, at8, at16, context), strict=True)]
        return logits, sides, self.judge(self.confidence_features(at2, context)).squeeze(1)

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the encoder at 1/2, 1/4, 1/8 and 1/16 of the input, and the pooled ones at 1/32."""
        half = self.stem(x)
        quarter = self.stages[0](half)
        eighth = self.stages[1](quarter)
        sixteenth = self.stages[2](eighth)
        return half, quarter, eighth, sixteenth, self.context(self.stages[3](sixteenth))

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

    Parameters
    ----------
    path : Path, optional
        Other weights than those in the package; only the packaged file is checked against its checksum.

    Raises
    ------
    ValueError
        If the checksum of the packaged file does not match.
    """
    net = BuiltinNet().fuse()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in read_weights(path).items()})
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return, unused-ignore]


def on_arrays(net: nn.Module) -> Callable[[np.ndarray], tuple[np.ndarray, float]]:
    """Return the network as a function on arrays, see `rmbg.networks.tta.Forward`."""

    @torch.inference_mode()
    def forward(x: np.ndarray) -> tuple[np.ndarray, float]:
        logits, confidence = net(torch.from_numpy(x).contiguous(memory_format=torch.channels_last))
        return logits[0, 0].numpy(), float(confidence)

    return forward
