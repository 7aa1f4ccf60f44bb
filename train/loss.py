"""Training loss: weighted cross-entropy and soft IoU of the mattes, cross-entropy of the confidence."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

EDGE_WEIGHT = 4.0  # a pixel on a boundary has up to 1 + EDGE_WEIGHT times the weight of one far from it
SIDE_WEIGHTS = (0.4, 0.3, 0.2, 0.2)  # of the side outputs at 1/4, 1/8, 1/16 and 1/32
BAND_WIDTH = 7  # of the boundary band, in pixels of the masks at 1/4
FILLED_WEIGHT = 0.1  # of the pixels inside masks that cover holes
OUTLINE_WIDTH = 4  # distance from the outline of these masks, in pixels, up to which they count in full


def edge_weight(masks: Tensor) -> Tensor:
    """Weights of the pixels, larger near boundaries (Wei et al., "F3Net", AAAI 2020): float (B, 1, H, W)."""
    small = F.avg_pool2d(masks, 4)
    local_mean = F.avg_pool2d(small, BAND_WIDTH, 1, BAND_WIDTH // 2, count_include_pad=False)
    local_mean = F.interpolate(local_mean, masks.shape[-2:], mode="bilinear")
    return 1 + EDGE_WEIGHT * (local_mean - masks).abs()


def reliability(masks: Tensor, filled: Tensor) -> Tensor:
    """Weights of the pixels, smaller inside masks that cover the holes of their subjects.

    Parameters
    ----------
    masks : Tensor, shape (B, 1, H, W), [0, 1]
    filled : Tensor, shape (B,), bool
        Which of the masks cover holes.

    Returns
    -------
    Tensor, shape (B, 1, H, W)
        `FILLED_WEIGHT` inside these masks, farther than `OUTLINE_WIDTH` from the outline; 1 elsewhere.
    """
    weight = torch.ones_like(masks)
    if filled.any():
        inside = 1 - F.max_pool2d(1 - masks[filled], 2 * OUTLINE_WIDTH + 1, 1, OUTLINE_WIDTH)
        weight[filled] -= (1 - FILLED_WEIGHT) * inside
    return weight


def matte_loss(logits: Tensor, masks: Tensor, weight: Tensor) -> Tensor:
    """Weighted cross-entropy plus weighted soft IoU loss; arguments of shape (B, 1, H, W)."""
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    entropy = (entropy * weight).sum((2, 3)) / weight.sum((2, 3))
    matte = logits.sigmoid()
    intersection = (matte * masks * weight).sum((2, 3))
    union = ((matte + masks) * weight).sum((2, 3)) - intersection
    # One percent of the area, as the IoU of pictures without subject would be 0 / 0.
    smoothing = 0.01 * weight.sum((2, 3))
    return (entropy + 1 - (intersection + smoothing) / (union + smoothing)).mean()


def binary_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """IoU of the mattes and masks, binarized at 0.5: float (B,), 0 if both are empty."""
    predicted, expected = logits > 0, masks > 0.5
    intersection = (predicted & expected).sum((1, 2, 3)).float()
    return intersection / (predicted | expected).sum((1, 2, 3)).clamp(min=1)


def total_loss(logits: Tensor, sides: list[Tensor], confidence: Tensor, masks: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch.

    Parameters
    ----------
    logits : Tensor, shape (B, 1, H, W)
    sides : list of Tensor
        Logits of the side outputs, each smaller by an integer factor.
    confidence : Tensor, shape (B,)
        Logits of the confidence, whose target is the IoU of the matte.
    masks : Tensor, shape (B, 1, H, W), [0, 1]
    filled : Tensor, shape (B,), bool
        Masks that cover the holes of their subjects. Their inside counts less, and the IoU with them is no target.

    Returns
    -------
    total : Tensor, scalar
        To differentiate.
    main : Tensor, scalar
        The part of the final matte, detached, for the log.
    """
    reliable = reliability(masks, filled)
    main = matte_loss(logits, masks, edge_weight(masks) * reliable)
    entropy = F.binary_cross_entropy_with_logits(confidence, binary_iou(logits.detach(), masks), reduction="none")
    total = main + (entropy * ~filled).mean()
    for weight, side in zip(SIDE_WEIGHTS, sides, strict=True):
        small, small_weight = (F.adaptive_avg_pool2d(planes, side.shape[-2:]) for planes in (masks, reliable))
        total = total + weight * matte_loss(side, small, small_weight)
    return total, main.detach()
