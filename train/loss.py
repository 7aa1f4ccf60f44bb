"""Training loss: weighted cross-entropy and soft IoU of the mattes, cross-entropy of the confidence."""

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

EDGE_WEIGHT = 4.0  # a pixel on a boundary has up to 1 + EDGE_WEIGHT times the weight of one far from it
SIDE_WEIGHTS = (0.4, 0.3, 0.2, 0.2)  # of the side outputs at 1/4, 1/8, 1/16 and 1/32
BAND_WIDTH = 7  # of the boundary band, in pixels of the masks at 1/4
UNKNOWN_RANGE = (0.3, 0.7)  # values of unknown pixels in trimaps, after resampling


def edge_weight(masks: Tensor) -> Tensor:
    """Weights of the pixels, larger near boundaries (Wei et al., "F3Net", AAAI 2020): float (B, 1, H, W)."""
    small = F.avg_pool2d(masks, 4)
    local_mean = F.avg_pool2d(small, BAND_WIDTH, 1, BAND_WIDTH // 2, count_include_pad=False)
    local_mean = F.interpolate(local_mean, masks.shape[-2:], mode="bilinear")
    return 1 + EDGE_WEIGHT * (local_mean - masks).abs()


def known_pixels(masks: Tensor, trimaps: Tensor) -> Tensor:
    """Pixels whose true value is known.

    Parameters
    ----------
    masks : Tensor, shape (B, 1, H, W), [0, 1]
    trimaps : Tensor, shape (B,), bool
        Which of the masks are trimaps. In the others gray is partial coverage.

    Returns
    -------
    Tensor, shape (B, 1, H, W)
        0 at gray pixels of trimaps, 1 elsewhere.
    """
    low, high = UNKNOWN_RANGE
    return 1 - (trimaps.view(-1, 1, 1, 1) & (masks > low) & (masks < high)).to(masks)


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


def binary_iou(logits: Tensor, masks: Tensor, known: Tensor | None = None) -> Tensor:
    """IoU of the mattes and masks, binarized at 0.5, over the known pixels: float (B,), 0 if both are empty."""
    predicted, expected = logits > 0, masks > 0.5
    if known is not None:
        predicted, expected = predicted & (known > 0), expected & (known > 0)
    intersection = (predicted & expected).sum((1, 2, 3)).float()
    return intersection / (predicted | expected).sum((1, 2, 3)).clamp(min=1)


def total_loss(
    logits: Tensor, sides: list[Tensor], confidence: Tensor, masks: Tensor, trimaps: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch.

    Parameters
    ----------
    logits : Tensor, shape (B, 1, H, W)
    sides : list of Tensor
        Logits of the side outputs, each smaller by an integer factor.
    confidence : Tensor, shape (B,)
        Logits of the confidence, whose target is the IoU of the matte.
    masks : Tensor, shape (B, 1, H, W), [0, 1]
    trimaps : Tensor, shape (B,), bool
        Which of the masks are trimaps, whose gray pixels are ignored.

    Returns
    -------
    total : Tensor, scalar
        To differentiate.
    main : Tensor, scalar
        The part of the final matte, detached, for the log.
    """
    known = known_pixels(masks, trimaps)
    main = matte_loss(logits, masks, edge_weight(masks) * known)
    total = main + F.binary_cross_entropy_with_logits(confidence, binary_iou(logits.detach(), masks, known))
    for weight, side in zip(SIDE_WEIGHTS, sides, strict=True):
        small, small_known = (F.adaptive_avg_pool2d(planes, side.shape[-2:]) for planes in (masks * known, known))
        total = total + weight * matte_loss(side, small / small_known.clamp(min=1e-3), small_known)
    return total, main.detach()
