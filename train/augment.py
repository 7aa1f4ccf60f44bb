"""Augmentation of batches in torch: one geometric resampling, composition, color jitter, degradation.

All randomness comes from a generator argument, so that a step can be repeated exactly.
"""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor

from train.data import Pairs

# Probabilities for each picture
P_FLIP = 0.5
P_ROTATE = 0.25  # by a normally distributed angle, standard deviation 10 degrees
P_CROP = 0.5
P_ZOOM_OUT = 0.06  # smaller, with mirrored margins
P_COMPOSITE = 0.15  # subject moved to the background of another picture
P_STUDIO = 0.06  # subject moved to a uniform or gradient background
P_HOLES = 0.35  # of moved subjects: a lattice of holes that shows the new background
P_BACKGROUND_ONLY = 0.03  # picture replaced by a background without subject
P_GRAYSCALE, P_DARK, P_JITTER = 0.06, 0.06, 0.7
P_BLUR, P_SHARPEN, P_NOISE, P_JPEG = 0.08, 0.15, 0.08, 0.08

MIN_CROP = 0.55  # side of a crop, as a fraction of the picture's
ASPECT_STD = 0.15  # standard deviation of the log of a crop's aspect ratio
MIN_WINDOW = 0.38  # side of an empty window that can serve as a background, as a fraction of the picture's


def uniform(rng: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform random numbers of the given shape."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def bernoulli(rng: Generator, probability: float, count: int) -> Tensor:
    """Independent draws with a probability of success: bool (count,)."""
    return torch.rand(count, generator=rng) < probability


def random_affine(rng: Generator, count: int) -> Tensor:
    """Random maps from output to source coordinates for ``affine_grid``: float (count, 2, 3)."""
    crop = torch.where(bernoulli(rng, P_CROP, count), uniform(rng, MIN_CROP, 1, count), torch.ones(count))
    crop = torch.where(bernoulli(rng, P_ZOOM_OUT, count), uniform(rng, 1.05, 1.3, count), crop)
    stretch = (torch.randn(count, generator=rng) * ASPECT_STD / 2).exp()
    cropped = (crop < 1).float()  # stretching a whole picture would cut parts off
    width = crop * torch.where(cropped > 0, stretch, 1.0)
    height = crop / torch.where(cropped > 0, stretch, 1.0)
    width, height = width.clamp(max=1.4), height.clamp(max=1.4)
    angle = torch.randn(count, generator=rng) * math.radians(10) * bernoulli(rng, P_ROTATE, count)
    shift_x = uniform(rng, -1, 1, count) * (1 - width).clamp(min=0)
    shift_y = uniform(rng, -1, 1, count) * (1 - height).clamp(min=0)
    mirror = torch.where(bernoulli(rng, P_FLIP, count), -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * width * mirror, -sin * height, shift_x, sin * width * mirror, cos * height, shift_y]
    return torch.stack(rows, 1).view(count, 2, 3)


def resample(squares: Tensor, theta: Tensor, side: int) -> Tensor:
    """Resample squares (B, C, S, S) by affine maps to (B, C, side, side) with mirrored margins."""
    grid = F.affine_grid(theta, (len(squares), squares.shape[1], side, side), align_corners=False)
    return F.grid_sample(squares, grid, padding_mode="reflection", align_corners=False)


def load_squares(pairs: Pairs, indices: np.ndarray) -> Tensor:
    """Read pictures and masks from the cache: float (B, 4, S, S) in [0, 1]."""
    squares = torch.from_numpy(pairs.squares[np.asarray(indices)])
    return squares.permute(0, 3, 1, 2).float().div_(255)


def sample_backgrounds(pairs: Pairs, rng: Generator, pool: np.ndarray, count: int, side: int) -> Tensor:
    """Empty windows of random pictures: float (count, 3, side, side)."""
    chosen = pool[torch.randint(len(pool), (count,), generator=rng).numpy()]
    left, top, size = torch.from_numpy(pairs.windows[chosen]).unbind(1)
    mirror = torch.where(bernoulli(rng, P_FLIP, count), -1.0, 1.0)
    zero = torch.zeros(count)
    rows = [size * mirror, zero, 2 * left + size - 1, zero, size, 2 * top + size - 1]
    return resample(load_squares(pairs, chosen)[:, :3], torch.stack(rows, 1).view(count, 2, 3), side)


def studio_backgrounds(rng: Generator, count: int, side: int) -> Tensor:
    """Uniform or gradient backgrounds, mostly light and gray: float (count, 3, side, side)."""
    base = torch.where(bernoulli(rng, 0.6, count), uniform(rng, 0.75, 1, count), uniform(rng, 0, 1, count)).view(-1, 1, 1, 1)
    tint = uniform(rng, -1, 1, count, 3, 1, 1) * torch.where(bernoulli(rng, 0.5, count), 0.03, 0.4).view(-1, 1, 1, 1)
    corners = uniform(rng, -0.25, 0.25, count, 1, 2, 2) * bernoulli(rng, 0.6, count).view(-1, 1, 1, 1)
    gradient = F.interpolate(corners, (side, side), mode="bilinear", align_corners=True)
    return (base + tint + gradient).clamp(0, 1)


def gaussian_blur(pictures: Tensor, sigma: float) -> Tensor:
    """Blur pictures (B, C, H, W) with mirrored margins."""
    radius = max(1, round(2 * sigma))
    offsets = torch.arange(-radius, radius + 1).float()
    kernel = (-(offsets**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).tolist()
    height, width = pictures.shape[-2:]
    # Sums of shifted pictures: a convolution of single channels takes ten times as long on a CPU.
    padded = F.pad(pictures, (radius,) * 4, mode="reflect")
    rows = sum(weight * padded[..., start : start + height, :] for start, weight in enumerate(kernel))
    return sum(weight * rows[..., start : start + width] for start, weight in enumerate(kernel))


def composite(pictures: Tensor, masks: Tensor, holes: Tensor, backgrounds: Tensor) -> Tensor:
    """Composite the subjects of pictures (B, 3, H, W), with holes, onto other backgrounds.

    The mask is eroded slightly, so that no rim of the old background remains at the outline.
    """
    alpha = ((gaussian_blur(masks, 0.8) - 0.35) / 0.6).clamp(0, 1) * (1 - holes)
    return pictures * alpha + backgrounds * (1 - alpha)


def random_lattices(rng: Generator, count: int, side: int) -> Tensor:
    """Parallel bars or grids at random angles: float (count, 1, side, side), 1 in a hole and 0 on a bar.

    Hand-drawn masks rarely have holes. These teach the network that the area between bars is background.
    """
    axis = torch.arange(side) + 0.5
    y, x = axis.view(1, side, 1), axis.view(1, 1, side)
    holes = torch.ones(count, side, side)
    direction = uniform(rng, 0, math.pi, count, 1, 1)
    for offset, probability in ((0.0, 1.0), (math.pi / 2, 0.6)):
        angle = direction + offset + torch.randn((count, 1, 1), generator=rng) * 0.25
        frequency = 1 / (uniform(rng, 0.06, 0.3, count, 1, 1) * side)  # bars per pixel
        phase = (x * angle.cos() + y * angle.sin()) * frequency + uniform(rng, 0, 1, count, 1, 1)
        distance = 1 - (phase - phase.round()).abs() * 2  # 0 between two bars, 1 in the middle of one
        gaps = ((uniform(rng, 0.45, 0.85, count, 1, 1) - distance) / (2 * frequency) + 0.5).clamp(0, 1)
        holes = torch.where(bernoulli(rng, probability, count).view(-1, 1, 1), torch.minimum(holes, gaps), holes)
    return holes.unsqueeze(1)


def lattice_holes(masks: Tensor, rng: Generator) -> Tensor:
    """Lattice of holes inside each mask, with a rim left around it: float (B, 1, S, S), 1 in a hole."""
    side = masks.shape[-1]
    rim = 2 * int(torch.randint(1, max(2, side // 24), (1,), generator=rng)) + 1
    inside = 1 - F.max_pool2d(1 - masks, rim, 1, rim // 2)
    return inside * random_lattices(rng, len(masks), side)


def color_jitter(pictures: Tensor, rng: Generator) -> Tensor:
    """Change brightness, contrast, saturation and tint; convert a few pictures to grayscale, darken a few."""
    count = len(pictures)
    jittered = bernoulli(rng, P_JITTER, count).float().view(-1, 1, 1, 1)
    gain = 1 + jittered * uniform(rng, -0.3, 0.3, count, 1, 1, 1) + jittered * uniform(rng, -0.08, 0.08, count, 3, 1, 1)
    contrast = 1 + jittered * uniform(rng, -0.3, 0.3, count, 1, 1, 1)
    saturation = 1 + jittered * uniform(rng, -0.5, 0.4, count, 1, 1, 1)
    saturation = saturation * (~bernoulli(rng, P_GRAYSCALE, count)).float().view(-1, 1, 1, 1)
    dark = torch.where(bernoulli(rng, P_DARK, count), uniform(rng, 0.15, 0.5, count), torch.ones(count)).view(-1, 1, 1, 1)
    # All of it is affine in RGB: saturation moves towards the gray of the pixel, contrast towards that of the picture.
    saturation = saturation.view(-1, 1, 1)
    mix = (gain * dark * contrast).flatten(2) * (saturation * torch.eye(3) + (1 - saturation) / 3)
    shift = (gain * dark * (1 - contrast)).flatten(2) * pictures.mean((1, 2, 3)).view(-1, 1, 1)
    return torch.baddbmm(shift, mix, pictures.flatten(2)).view_as(pictures).clamp_(0, 1)


def jpeg_compress(picture: Tensor, quality: int) -> Tensor:
    """Encode one picture (3, H, W) as JPEG and decode it."""
    pixels = picture.permute(1, 2, 0).mul(255).round().byte().numpy()
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file))
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).float().div_(255)


def degrade(pictures: Tensor, rng: Generator) -> Tensor:
    """Apply blur, sharpening, noise and JPEG compression to a few pictures each, in place."""
    count = len(pictures)
    blurred = bernoulli(rng, P_BLUR, count)
    if blurred.any():
        pictures[blurred] = gaussian_blur(pictures[blurred], float(uniform(rng, 0.5, 1.6, 1)))
    sharp = bernoulli(rng, P_SHARPEN, count) & ~blurred
    if sharp.any():
        soft = gaussian_blur(pictures[sharp], 1.0)
        pictures[sharp] += (pictures[sharp] - soft) * float(uniform(rng, 0.3, 1.2, 1))
    noisy = bernoulli(rng, P_NOISE, count)
    if noisy.any():
        pictures[noisy] += torch.randn(pictures[noisy].shape, generator=rng) * float(uniform(rng, 0.01, 0.08, 1))
    pictures.clamp_(0, 1)
    for index in bernoulli(rng, P_JPEG, count).nonzero().flatten().tolist():
        pictures[index] = jpeg_compress(pictures[index], int(torch.randint(20, 80, (1,), generator=rng)))
    return pictures


def make_batch(pairs: Pairs, indices: np.ndarray, pool: np.ndarray, side: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Draw and augment a training batch.

    Parameters
    ----------
    pairs : Pairs
    indices : ndarray, shape (B,), int
        Pictures of the batch.
    pool : ndarray, int
        Pictures with an empty window of at least ``MIN_WINDOW``.
    side : int
        Side of the result.
    rng : Generator

    Returns
    -------
    pictures : Tensor, shape (B, 3, side, side), [0, 1]
    masks : Tensor, shape (B, 1, side, side), [0, 1]
    """
    count = len(indices)
    views = resample(load_squares(pairs, indices), random_affine(rng, count), side)
    pictures, masks = views[:, :3].contiguous(), views[:, 3:].contiguous()
    category = torch.rand(count, generator=rng)
    moved = (category < P_COMPOSITE) & (len(pool) > 0)
    studio = (category >= P_COMPOSITE) & (category < P_COMPOSITE + P_STUDIO)
    background_only = category >= 1 - P_BACKGROUND_ONLY
    with_holes = (moved | studio) & bernoulli(rng, P_HOLES, count)
    holes = torch.zeros_like(masks)
    if with_holes.any():
        holes[with_holes] = lattice_holes(masks[with_holes], rng)
    if moved.any():
        new = sample_backgrounds(pairs, rng, pool, int(moved.sum()), side)
        pictures[moved] = composite(pictures[moved], masks[moved], holes[moved], new)
    if studio.any():
        new = studio_backgrounds(rng, int(studio.sum()), side)
        pictures[studio] = composite(pictures[studio], masks[studio], holes[studio], new)
    masks = masks * (1 - holes)
    if len(pool) and background_only.any():
        pictures[background_only] = sample_backgrounds(pairs, rng, pool, int(background_only.sum()), side)
        masks[background_only] = 0
    return degrade(color_jitter(pictures, rng), rng), masks
