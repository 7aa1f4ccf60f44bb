"""What the network is trained to make small: per-pixel, region and confidence errors."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

EDGE = 4.0  # a pixel in the midst of a boundary weighs up to 1 + EDGE times one far from it
SIDES = (0.4, 0.3, 0.2, 0.2)  # weights of the coarse mattes at 1/4, 1/8, 1/16 and 1/32
REACH = 7  # width of the boundary band, in quarter pixels


def edge_weight(masks: Tensor) -> Tensor:
    """Weights of the pixels, larger near boundaries (Wei et al., "F3Net", AAAI 2020), shape as the masks (B, 1, H, W)."""
    small = F.avg_pool2d(masks, 4)
    around = F.avg_pool2d(small, REACH, 1, REACH // 2, count_include_pad=False)
    around = F.interpolate(around, masks.shape[-2:], mode="bilinear")
    return 1 + EDGE * (around - masks).abs()


def matte_loss(logits: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy plus weighted soft IoU; all of shape (B, 1, H, W)."""
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    entropy = (entropy * weight).sum((2, 3)) / weight.sum((2, 3))
    matte = logits.sigmoid()
    both = (matte * masks * weight).sum((2, 3))
    either = ((matte + masks) * weight).sum((2, 3)) - both
    # One percent of the area keeps pictures without subject from asking for an IoU of 0 / 0.
    slack = 0.01 * weight.sum((2, 3))
    return (entropy + 1 - (both + slack) / (either + slack)).mean()


def measured_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """IoU at 0.5 of each matte, shape (B,); 0 where there is no subject to find."""
    found, wanted = logits > 0, masks > 0.5
    both = (found & wanted).sum((1, 2, 3)).float()
    return both / (found | wanted).sum((1, 2, 3)).clamp(min=1)


def total_loss(logits: Tensor, sides: list[Tensor], judged: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Loss to differentiate and, for the log, the part of the final matte.

    Parameters
    ----------
    logits : Tensor, shape (B, 1, H, W)
    sides : list of Tensor
        Coarse logits, each a whole number of times smaller.
    judged : Tensor, shape (B,)
        Logits of the confidence; it learns the true IoU.
    masks : Tensor, shape (B, 1, H, W), [0, 1]
    """
    main = matte_loss(logits, masks, edge_weight(masks))
    total = main + F.binary_cross_entropy_with_logits(judged, measured_iou(logits.detach(), masks))
    for share, side in zip(SIDES, sides, strict=True):
        small = F.adaptive_avg_pool2d(masks, side.shape[-2:])
        total = total + share * matte_loss(side, small, torch.ones_like(small))
    return total, main.detach()
