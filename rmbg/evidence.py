"""What colours say about a matte: the network's opinion as prior, the photo's own colours as evidence.

A small network sees shapes well and gaps badly: between the spindles of a chair it fills in what the backdrop's colour shows
to be background. So the colours around each pixel are asked: how well do the background's nearby colours explain it, how
well the subject's? Bayes' rule joins the two, as in Y.-Y. Chuang, B. Curless, D. Salesin and R. Szeliski, "A Bayesian
Approach to Digital Matting", CVPR 2001, with one Gaussian for each side. In front of a plain backdrop colours are nearly
proof, and may overrule the network; elsewhere they only tip the scales.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image
from scipy import ndimage

#: Longest side of the copy whose colours are looked at, and of the one that their means and spreads are taken on.
SIDE, COARSE = 640, 80

#: Radius of what counts as near, as a share of the longer side; beyond it, a wider ring counts a hundredth.
NEAR, WIDE, WIDE_WEIGHT = 0.25, 4.0, 1e-2

#: Linear light of each level of sRGB (IEC 61966-2-1).
LINEAR = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in np.arange(256) / 255], np.float32)

#: Standard deviation that every colour has at least, in units of CIELAB.
NOISE = 3.0

#: A backdrop is plain where its pixels differ from their surroundings by less than this, in units of CIELAB.
PLAIN = 4.2

#: In front of a plain backdrop: how sure of a subject the network may be, how much colours may say, in nats, and how often they
#: are asked. What it takes for background it may be sure of: thin parts that it misses leave a doubt, bricks do not.
PLAIN_PRIOR, PLAIN_LIMIT, PLAIN_ROUNDS = 3.0, 4.0, 3

#: Probability from which the network is sure of a pixel.
SURE = 0.8

#: How steep the colours are around a gap that the network, with these logits, had filled: in units of CIELAB a pixel. Less is
#: shading.
RIM, RIM_SURE = 6.2, 5.5

#: Logit, on average over a gap, from which no edge speaks against the network: the white bottom of a plate on a white table.
SUREST = 4.6

#: Colours that would take away more than this share of what the network is sure of, without good reason, are not asked: subject
#: and backdrop have the same ones, a white sofa in a white room.
ALIKE = 0.25

#: Elsewhere: how much colours may say, and how much of it counts.
LIMIT, SHARE = 3.0, 0.5


def weigh(logits: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """The matte that the network's opinion and the colours make together.

    Parameters
    ----------
    logits : float32 array (h, w)
        The network's: log of subject's over background's probability, for the whole photo squashed to any size.
    rgb : uint8 array (H, W, 3)

    Returns
    -------
    float32 array
        Alpha in [0, 1], of the photo's shape and at most `SIDE` pixels a side.
    """
    lab = small_lab(rgb)
    height, width = lab.shape[:2]
    prior = _resize(logits, height, width)
    alpha = sigmoid(prior)
    if unrest(lab, alpha) >= PLAIN:
        return sigmoid(prior + SHARE * np.clip(likelihood(lab, alpha), -LIMIT, LIMIT))
    clipped, joined = np.minimum(prior, PLAIN_PRIOR), alpha
    for _ in range(PLAIN_ROUNDS):
        joined = sigmoid(clipped + np.clip(likelihood(lab, joined), -PLAIN_LIMIT, PLAIN_LIMIT))
    unfounded, sure = _unfounded(prior, joined, lab), alpha > SURE
    if (unfounded & sure).sum() > ALIKE * sure.sum():
        return alpha
    return np.where(unfounded, alpha, joined)


def _unfounded(prior: np.ndarray, joined: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """Where colours took away what the network was sure of, without good reason: bool (h, w).

    A gap lies inside a subject and has an edge that can be seen. What is lost up to the picture's border is a white shirt in
    front of a white wall, and what is lost without an edge is light on a forehead that has the wall's colour. The surer the
    network is, the more of an edge is asked for.
    """
    lost, count = ndimage.label((sigmoid(prior) > SURE) & (joined < SURE))
    if not count:
        return np.zeros(prior.shape, bool)
    unfounded = np.zeros(count + 1, bool)
    unfounded[np.concatenate([lost[0], lost[-1], lost[:, 0], lost[:, -1]])] = True
    slope = np.sqrt(sum(ndimage.gaussian_gradient_magnitude(lab[..., c], 1) ** 2 for c in range(3)))
    reached = ndimage.grey_dilation(lost, (5, 5))
    rim = (reached > 0) & ~ndimage.binary_erosion(lost > 0, iterations=2)
    pixels = np.bincount(reached[rim], minlength=count + 1)
    steepness = np.bincount(reached[rim], slope[rim], minlength=count + 1) / np.maximum(pixels, 1)
    sureness = np.bincount(lost.ravel(), prior.ravel(), minlength=count + 1) / np.bincount(lost.ravel())
    unfounded |= (steepness < RIM * np.minimum(1, sureness / RIM_SURE)) | (sureness > SUREST)
    unfounded[0] = False
    # The soft rim of what was lost goes back with it.
    return unfounded[reached]


def likelihood(lab: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Log of how much better the subject's colours explain each pixel than the background's: float32 (h, w)."""
    misfit = []
    for weight in (_surely(1 - alpha), _surely(alpha)):
        mean, variance = _nearby(lab, weight)
        variance = variance + NOISE**2
        misfit.append(((lab - mean) ** 2 / variance + np.log(variance)).sum(axis=-1))
    return 0.5 * (misfit[0] - misfit[1])


def unrest(lab: np.ndarray, alpha: np.ndarray) -> float:
    """How much background pixels differ from what is around them, on average, in units of CIELAB."""
    weight = _surely(1 - alpha)
    mean, _ = _nearby(lab, weight)
    return float(np.average(np.linalg.norm(lab - mean, axis=-1), weights=weight))


def _surely(probability: np.ndarray) -> np.ndarray:
    """Weight of pixels as samples of a side: none below 0.65, full from 0.95 on."""
    return np.clip((probability - 0.65) / 0.3, 0, 1) + np.float32(1e-7)


def _nearby(lab: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and variance of colours around each pixel: two float32 arrays (h, w, 3)."""
    height, width = weight.shape
    scale = COARSE / max(height, width)
    rows, columns = max(8, round(height * scale)), max(8, round(width * scale))
    planes = [weight]
    for channel in range(3):
        plane = lab[..., channel]
        planes += [plane * weight, plane * plane * weight]
    small = np.stack([_resize(plane, rows, columns, Image.Resampling.BOX) for plane in planes])
    spread = sum(
        share * (_gaussian(rows, sigma) @ small @ _gaussian(columns, sigma))
        for share, sigma in ((1.0, NEAR * COARSE), (WIDE_WEIGHT, WIDE * NEAR * COARSE))
    )
    spread = spread + 1e-5 * small.mean(axis=(1, 2), keepdims=True)
    mean, variance = np.empty_like(lab), np.empty_like(lab)
    for channel in range(3):
        average, square = spread[1 + 2 * channel] / spread[0], spread[2 + 2 * channel] / spread[0]
        mean[..., channel] = _resize(average, height, width)
        variance[..., channel] = _resize(np.maximum(square - average**2, 0), height, width)
    return mean, variance


@functools.cache
def _gaussian(count: int, sigma: float) -> np.ndarray:
    """A Gaussian filter along an axis of `count` places as a matrix; beyond the ends nothing weighs anything."""
    place = np.arange(count)
    distance = (place[:, None] - place) / sigma
    return (np.exp(-0.5 * distance**2) / (sigma * math.sqrt(2 * math.pi))).astype(np.float32)


def small_lab(rgb: np.ndarray) -> np.ndarray:
    """A small, slightly smoothed copy in CIELAB (D65): float32 (h, w, 3), lightness from 0 to 100."""
    height, width = rgb.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX, reducing_gap=1.0))
    linear = LINEAR[small]
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float32)
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089], np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)
    return ndimage.gaussian_filter(lab, (0.7, 0.7, 0)).astype(np.float32)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities: float32."""
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def _resize(plane: np.ndarray, height: int, width: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32)).resize((width, height), how))
