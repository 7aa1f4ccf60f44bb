"""Network of the refiner: corrects a coarse matte on a larger copy of the photo.

The encoder is that of the built-in network, whose weights are already in the package and stay as they are. The decoder starts
from the built-in one as well, and receives the coarse matte and the distance of each color from those of both sides around it
at every level (the coarse matte as an input follows Cheng et al., "CascadePSP", CVPR 2020). A last block at full resolution
adds detail. The output is a sum of logits: those of the coarse matte, of the decoder and of the detail.

``train/refiner.py`` trains the weights.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from safetensors.torch import load as read_tensors
from torch import Tensor, nn

from rmbg.matting.color_prior import sigmoid
from rmbg.matting.matte import bounding_box, resize
from rmbg.networks.builtin import BuiltinNet, ConvNorm, Merge
from rmbg.networks.builtin_spec import CONTEXT, DECODER, MEAN, STD, STEM, WIDTHS

DETAIL = 24  # channels of the last block, at 1/2 of the input
HINTS = 5  # planes of `hint_planes`
WINDOW = 15  # side of the windows of the color means, in cells of 8 x 8 pixels
MAX_LOGIT = 4.0  # of the coarse matte

MARGIN = 0.15  # space around the subject, as a fraction of its longer side
AREA, MULTIPLE = 448**2, 32  # pixels of the input, and the number that its sides are multiples of


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
        given = torch.logit(coarse.float(), 1e-4).clamp(-MAX_LOGIT, MAX_LOGIT)
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
    cells = F.avg_pool2d(rgb, 8)
    alpha = F.avg_pool2d(coarse, 8)
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


@torch.inference_mode()
def predict(net: RefinerNet, encoder: BuiltinNet, rgb: np.ndarray, coarse: np.ndarray) -> np.ndarray:
    """Logits of the refined matte, float32 (H, W), for a photo, uint8 (H, W, 3), and its coarse matte, float32 (H, W)."""
    picture = torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float().div_(255)
    return net(encoder, picture, torch.from_numpy(np.array(coarse))[None, None])[0, 0].float().numpy()


def load_refiner(path: Path) -> RefinerNet:
    """Load the trained network for inference: float32, channels last."""
    net = RefinerNet()
    net.load_state_dict({name: tensor.float() for name, tensor in read_tensors(path.read_bytes()).items()})
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return, unused-ignore]


def refine(net: RefinerNet, encoder: BuiltinNet, matte: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Correct a coarse matte on a copy of the photo around the subject.

    Parameters
    ----------
    net : RefinerNet
    encoder : BuiltinNet
    matte : float32 array (h, w)
        Alpha in [0, 1] of the whole photo, of any shape.
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    float32 array
        Alpha in [0, 1], of the photo's proportions and the network's resolution.
    """
    height, width = rgb.shape[:2]
    rows, columns = bounding_box(matte, margin=MARGIN)
    y, x = height / matte.shape[0], width / matte.shape[1]
    left, top, right, bottom = columns.start * x, rows.start * y, columns.stop * x, rows.stop * y
    scale = math.sqrt(AREA / ((right - left) * (bottom - top)))
    size = tuple(max(MULTIPLE, round(length * scale / MULTIPLE) * MULTIPLE) for length in (right - left, bottom - top))
    photo = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, box=(left, top, right, bottom), reducing_gap=2.0)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    coarse = Image.fromarray(np.ascontiguousarray(matte, np.float32)).resize(size, Image.Resampling.BILINEAR, box=box)
    refined = sigmoid(predict(net, encoder, np.asarray(photo), np.asarray(coarse)))
    small_width, small_height = round(width * size[0] / (right - left)), round(height * size[1] / (bottom - top))
    result = resize(matte, small_height, small_width)
    at_x, at_y = round(left * small_width / width), round(top * small_height / height)
    result[at_y : at_y + size[1], at_x : at_x + size[0]] = refined[: small_height - at_y, : small_width - at_x]
    return result
