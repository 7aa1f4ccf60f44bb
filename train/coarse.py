"""Coarse mattes for the training of the refiner, with the errors that it meets in use.

Most come from the built-in network on a reduced copy of the picture, with or without the color prior. Others are true mattes
that are perturbed (as in Cheng et al., "CascadePSP", CVPR 2020) or slightly blurred, as the mattes of larger networks.
"""

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from rmbg.matting.color_prior import apply_color_prior, sigmoid
from rmbg.matting.matte import resample, resize, sharpen_edges
from rmbg.networks.builtin import BuiltinNet
from rmbg.networks.refiner import normalize

P_COLOR_PRIOR, P_SHARPEN = 0.7, 0.7
PRIOR_SIDE = 320  # longest side of the copy that the color prior is computed on
MIN_IOU = 0.5  # with the truth; a matte of another object cannot be refined
MAX_SHIFT = 0.02  # of the perturbed outline, as a fraction of the longer side


@torch.no_grad()
def network_logits(net: BuiltinNet, pictures: list[np.ndarray], side: int) -> np.ndarray:
    """Logits of the built-in network for pictures, uint8 (H, W, 3), resized to squares: float32 (N, side, side)."""
    squares = [
        np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)) for p in pictures
    ]
    batch = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float().div_(255)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = net(normalize(batch))
    return logits[:, 0].float().numpy()


def network_matte(logits: np.ndarray, rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Matte of a picture, float32 (H, W), from its logits, post-processed as by the provider."""
    if rng.random() < P_COLOR_PRIOR:
        small = Image.fromarray(rgb)
        small.thumbnail((PRIOR_SIDE, PRIOR_SIDE), Image.Resampling.BOX)
        matte = apply_color_prior(logits, np.asarray(small))
    else:
        matte = sigmoid(logits)
    if rng.random() < P_SHARPEN:
        matte = sharpen_edges(matte)
    return resize(matte, *rgb.shape[:2])


def iou(matte: np.ndarray, truth: np.ndarray) -> float:
    """IoU of two mattes, binarized at 0.5."""
    inside, expected = matte > 0.5, truth > 0.5
    return float((inside & expected).sum() / max(1, (inside | expected).sum()))


def perturbed(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True matte with a shifted outline, filled gaps and lost thin parts: float32 (H, W)."""
    height, width = truth.shape
    scale = rng.uniform(0.1, 0.35)
    small = resize(truth, max(8, round(height * scale)), max(8, round(width * scale)))
    choice = rng.random()
    size = int(rng.choice([3, 5, 7]))
    if choice < 0.3:
        small = ndimage.grey_closing(small, size)
    elif choice < 0.5:
        small = ndimage.grey_opening(small, size)
    matte = resize(ndimage.gaussian_filter(small, rng.uniform(0.3, 1.2)), height, width)
    noise = ndimage.zoom(rng.normal(size=(2, 9, 9)), (1, height / 9, width / 9), order=1)
    noise = noise * rng.uniform(0.2, 1.0) * MAX_SHIFT * max(height, width)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    matte = ndimage.map_coordinates(matte, [rows + noise[0], columns + noise[1]], order=1, mode="nearest")
    return sharpen_edges(matte, rng.uniform(1.0, 3.0))


def blurred(truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """True matte as a good network returns it, reduced and smoothed: float32 (H, W)."""
    height, width = truth.shape
    scale = rng.uniform(0.4, 1.0)
    small = resample(truth, max(8, round(height * scale)), max(8, round(width * scale)))
    return np.clip(resample(ndimage.gaussian_filter(small, rng.uniform(0.3, 1.0)), height, width), 0, 1)
