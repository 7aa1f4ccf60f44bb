"""Network that corrects the matte of the built-in network on a window around the subject.

The encoder is that of the built-in network. The decoder has the same layers and receives the coarse matte and the distance of
each color from those of both sides around it at every level (the coarse matte as an input follows Cheng et al., "CascadePSP",
CVPR 2020). A last block at full resolution adds detail. The output is a sum of logits: those of the coarse matte, of the
decoder and of the detail.

``train/refiner.py`` trains the weights; ``train/README.md`` is their model card.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from rmbg.networks.builtin import BuiltinNet, ConvNorm, Merge
from rmbg.networks.builtin_spec import CONTEXT, DECODER, MEAN, STD, STEM, WIDTHS
from rmbg.networks.refiner_spec import CELL, DETAIL, HINTS, LOGIT_EPSILON, MAX_LOGIT, WINDOW, Forward, read_weights


class RefinerNet(nn.Module):
    """Decoder with the coarse matte as a second input; the encoder is an argument of `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.merge16 = Merge(CONTEXT, WIDTHS[2], DECODER[2])
        self.merge8 = Merge(DECODER[2], WIDTHS[1], DECODER[1])
        self.merge4 = Merge(DECODER[1], WIDTHS[0], DECODER[0])
        self.merge2 = Merge(DECODER[0], STEM, STEM)
        self.matte = nn.Conv2d(STEM, 1, 3, padding=1)
        widths = (DECODER[2], DECODER[1], DECODER[0], STEM)
        self.hints = nn.ModuleList(nn.Conv2d(HINTS, width, 3, padding=1) for width in widths)
        self.detail = nn.Sequential(
            nn.Conv2d(STEM + 4 * (3 + HINTS), DETAIL, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(DETAIL, DETAIL, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(DETAIL, 4, 3, padding=1),
        )
        self.balance = nn.Parameter(torch.tensor([1.0, 0.1]))  # weights of the coarse and the decoder's logits
        self.eval()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()

    def start_from(self, net: BuiltinNet) -> RefinerNet:
        """Copy the decoder of a fused network, and let hints and detail start without influence."""
        self.load_state_dict(net.state_dict(), strict=False)
        for conv in (*self.hints, self.detail[-1]):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        return self

    def forward(self, encoder: BuiltinNet, rgb: Tensor, coarse: Tensor) -> Tensor:
        """Predict the logits of the refined matte.

        Parameters
        ----------
        encoder : BuiltinNet
            Fused.
        rgb : Tensor, shape (B, 3, H, W), float
            In [0, 1], not normalized; H and W multiples of 32.
        coarse : Tensor, shape (B, 1, H, W), float
            Matte in [0, 1].

        Returns
        -------
        Tensor, shape (B, 1, H, W)
        """
        planes = hint_planes(rgb, coarse)
        with torch.no_grad():
            half, quarter, eighth, sixteenth, context = encoder.encode(normalize(rgb))
        fine = (sixteenth, eighth, quarter, half)
        x = context
        for level, (merge, features, hint) in enumerate(
            zip((self.merge16, self.merge8, self.merge4, self.merge2), fine, self.hints, strict=True)
        ):
            x = merge(x, features, hint(F.avg_pool2d(planes, 16 >> level)))
        whole = torch.cat([x, F.pixel_unshuffle(torch.cat([rgb - 0.5, planes], 1), 2)], 1)
        detail = F.pixel_shuffle(self.detail(whole), 2)
        decoded = F.interpolate(self.matte(x), rgb.shape[-2:], mode="bilinear")
        given = torch.logit(coarse.float(), LOGIT_EPSILON).clamp(-MAX_LOGIT, MAX_LOGIT)
        return self.balance[0] * given + self.balance[1] * decoded.float() + detail.float()


def normalize(rgb: Tensor) -> Tensor:
    """Normalize RGB in [0, 1], float (B, 3, H, W), as the encoder's input."""
    mean, std = (torch.tensor(values, device=rgb.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return ((rgb - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def hint_planes(rgb: Tensor, coarse: Tensor) -> Tensor:
    """Coarse matte, its uncertainty, and color distances: float (B, HINTS, H, W) in about [-1, 1].

    The colors of both sides are means over `WINDOW` around each cell, of pixels whose coarse alpha is certain.
    """
    cells = F.avg_pool2d(rgb, CELL)
    alpha = F.avg_pool2d(coarse, CELL)
    distances = []
    for side in (alpha, 1 - alpha):
        weight = ((side - 0.65) / 0.3).clamp(0, 1) + 1e-4
        sums = F.avg_pool2d(torch.cat([cells * weight, weight], 1), WINDOW, 1, WINDOW // 2)
        mean = F.interpolate(sums[:, :3] / sums[:, 3:], rgb.shape[-2:], mode="bilinear")
        distances.append(((rgb - mean) ** 2).mean(1, keepdim=True).sqrt())
    inside, outside = distances
    ratio = (outside - inside) / (outside + inside + 0.03)
    uncertainty = 1 - (2 * coarse - 1).abs()
    planes = torch.cat([2 * coarse - 1, uncertainty, ratio, 2 * inside, 2 * outside], 1)
    return planes.contiguous(memory_format=torch.channels_last)


def load(path: Path | None = None) -> RefinerNet:
    """Load the trained network for inference, as ``builtin.load``."""
    net = RefinerNet()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in read_weights(path).items()})
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return, unused-ignore]


def on_arrays(net: RefinerNet, encoder: BuiltinNet) -> Forward:
    """Return the network as a function on arrays, see `refiner_spec.Forward`."""

    @torch.inference_mode()
    def forward(rgb: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        return net(encoder, torch.from_numpy(rgb), torch.from_numpy(coarse))[0, 0].numpy()

    return forward
