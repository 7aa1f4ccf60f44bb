"""Augmentation of whole batches in torch: geometry in one resampling, then light, then damage.

Every function takes a generator, so that a step can be repeated exactly.
"""

import io
import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Generator, Tensor

from train.data import Pairs

FLIP = 0.5
ROTATE = 0.25  # share of pictures turned, by up to 15 degrees (normally distributed, that is 1.5 sigma)
CROP = 0.5  # share of pictures of which only a part is seen, the others are whole
SMALLEST_CROP = 0.55  # side
STRETCH = 0.15  # log of the aspect, standard deviation
ZOOM_OUT = 0.06  # share made smaller, with mirrored margins
COMPOSITE = 0.15  # share of subjects moved to the background of another picture
STUDIO = 0.06  # share of subjects moved to a plain or graded backdrop
PIERCED = 0.35  # share of the moved subjects through which the new background shows in a lattice of holes
NOTHING = 0.03  # share replaced by a background without subject
WINDOW = 0.38  # smallest side of an empty window that serves as background
GREY, DARK, JITTER, BLUR, SHARPEN, NOISE, JPEG = 0.06, 0.06, 0.7, 0.08, 0.15, 0.08, 0.08


def uniform(rng: Generator, low: float, high: float, *shape: int) -> Tensor:
    """Uniform random numbers."""
    return torch.rand(shape, generator=rng) * (high - low) + low


def chance(rng: Generator, share: float, count: int) -> Tensor:
    """Which of ``count`` pictures something happens to, as bool."""
    return torch.rand(count, generator=rng) < share


def affine(rng: Generator, count: int) -> Tensor:
    """Random maps from output to source coordinates, shape (count, 2, 3), as for ``affine_grid``."""
    crop = torch.where(chance(rng, CROP, count), uniform(rng, SMALLEST_CROP, 1, count), torch.ones(count))
    crop = torch.where(chance(rng, ZOOM_OUT, count), uniform(rng, 1.05, 1.3, count), crop)
    stretch = (torch.randn(count, generator=rng) * STRETCH / 2).exp()
    cropped = (crop < 1).float()  # a whole picture stays whole, so only a crop is stretched
    wide = crop * torch.where(cropped > 0, stretch, 1.0)
    high = crop / torch.where(cropped > 0, stretch, 1.0)
    wide, high = wide.clamp(max=1.4), high.clamp(max=1.4)
    angle = torch.randn(count, generator=rng) * math.radians(10) * chance(rng, ROTATE, count)
    free_x, free_y = (1 - wide).clamp(min=0), (1 - high).clamp(min=0)
    shift_x = uniform(rng, -1, 1, count) * free_x
    shift_y = uniform(rng, -1, 1, count) * free_y
    mirror = torch.where(chance(rng, FLIP, count), -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    rows = [cos * wide * mirror, -sin * high, shift_x, sin * wide * mirror, cos * high, shift_y]
    return torch.stack(rows, 1).view(count, 2, 3)


def resample(squares: Tensor, theta: Tensor, side: int) -> Tensor:
    """Squares (B, C, S, S) seen through affine maps, at another side; margins are mirrored."""
    grid = F.affine_grid(theta, (len(squares), squares.shape[1], side, side), align_corners=False)
    return F.grid_sample(squares, grid, padding_mode="reflection", align_corners=False)


def take(pairs: Pairs, indices: np.ndarray) -> Tensor:
    """Pictures of the cache as float in [0, 1], shape (B, 4, S, S)."""
    squares = torch.from_numpy(pairs.squares[np.asarray(indices)])
    return squares.permute(0, 3, 1, 2).float().div_(255)


def backgrounds(pairs: Pairs, rng: Generator, pool: np.ndarray, count: int, side: int) -> Tensor:
    """Views of empty windows of random pictures, shape (count, 3, side, side)."""
    chosen = pool[torch.randint(len(pool), (count,), generator=rng).numpy()]
    left, top, size = torch.from_numpy(pairs.windows[chosen]).unbind(1)
    mirror = torch.where(chance(rng, FLIP, count), -1.0, 1.0)
    zero = torch.zeros(count)
    rows = [size * mirror, zero, 2 * left + size - 1, zero, size, 2 * top + size - 1]
    return resample(take(pairs, chosen)[:, :3], torch.stack(rows, 1).view(count, 2, 3), side)


def backdrops(rng: Generator, count: int, side: int) -> Tensor:
    """Plain or graded studio backdrops, mostly light and grey, shape (count, 3, side, side)."""
    base = torch.where(chance(rng, 0.6, count), uniform(rng, 0.75, 1, count), uniform(rng, 0, 1, count)).view(-1, 1, 1, 1)
    tint = uniform(rng, -1, 1, count, 3, 1, 1) * torch.where(chance(rng, 0.5, count), 0.03, 0.4).view(-1, 1, 1, 1)
    corners = uniform(rng, -0.25, 0.25, count, 1, 2, 2) * chance(rng, 0.6, count).view(-1, 1, 1, 1)
    shade = F.interpolate(corners, (side, side), mode="bilinear", align_corners=True)
    return (base + tint + shade).clamp(0, 1)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, C, H, W), mirrored at the margins."""
    radius = max(1, round(2 * sigma))
    steps = torch.arange(-radius, radius + 1).float()
    kernel = (-(steps**2) / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    planes = pictures.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(F.pad(planes, (radius, radius, 0, 0), mode="reflect"), kernel.view(1, 1, 1, -1))
    planes = F.conv2d(F.pad(planes, (0, 0, radius, radius), mode="reflect"), kernel.view(1, 1, -1, 1))
    return planes.view_as(pictures)


def compose(pictures: Tensor, masks: Tensor, holes: Tensor, behind: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) before other backgrounds, which show through holes too.

    The mask is drawn in a little, or an old rim would give it away. Holes have no old rim.
    """
    alpha = ((blur(masks, 0.8) - 0.35) / 0.6).clamp(0, 1) * (1 - holes)
    return pictures * alpha + behind * (1 - alpha)


def lattices(rng: Generator, count: int, side: int) -> Tensor:
    """Regular holes, 1 in a hole and 0 on a bar, shape (count, 1, side, side): rows, or a grid at any slant.

    Hand-drawn masks seldom have holes, so these must teach that what shows between bars is background.
    """
    axis = torch.arange(side) + 0.5
    y, x = axis.view(1, side, 1), axis.view(1, 1, side)
    holes = torch.ones(count, side, side)
    turn = uniform(rng, 0, math.pi, count, 1, 1)
    for slant, share in ((0.0, 1.0), (math.pi / 2, 0.6)):
        angle = turn + slant + torch.randn((count, 1, 1), generator=rng) * 0.25
        pace = 1 / (uniform(rng, 0.06, 0.3, count, 1, 1) * side)  # bars per pixel
        place = (x * angle.cos() + y * angle.sin()) * pace + uniform(rng, 0, 1, count, 1, 1)
        off_bar = 1 - (place - place.round()).abs() * 2  # 0 between two bars, 1 in the midst of one
        row = ((uniform(rng, 0.45, 0.85, count, 1, 1) - off_bar) / (2 * pace) + 0.5).clamp(0, 1)
        holes = torch.where(chance(rng, share, count).view(-1, 1, 1), torch.minimum(holes, row), holes)
    return holes.unsqueeze(1)


def pierce(masks: Tensor, rng: Generator) -> Tensor:
    """A lattice of holes inside the rim of each mask (B, 1, S, S), of the same shape, 1 in a hole."""
    side = masks.shape[-1]
    rim = 2 * int(torch.randint(1, max(2, side // 24), (1,), generator=rng)) + 1
    inside = 1 - F.max_pool2d(1 - masks, rim, 1, rim // 2)
    return inside * lattices(rng, len(masks), side)


def relight(pictures: Tensor, rng: Generator) -> Tensor:
    """Brightness, contrast, saturation, tint and gamma of some; grey and night for a few."""
    count = len(pictures)
    some = chance(rng, JITTER, count).float().view(-1, 1, 1, 1)
    gain = 1 + some * uniform(rng, -0.3, 0.3, count, 1, 1, 1) + some * uniform(rng, -0.08, 0.08, count, 3, 1, 1)
    contrast = 1 + some * uniform(rng, -0.3, 0.3, count, 1, 1, 1)
    saturation = 1 + some * uniform(rng, -0.5, 0.4, count, 1, 1, 1)
    saturation = saturation * (~chance(rng, GREY, count)).float().view(-1, 1, 1, 1)
    dark = torch.where(chance(rng, DARK, count), uniform(rng, 0.15, 0.5, count), torch.ones(count)).view(-1, 1, 1, 1)
    grey = pictures.mean(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    pictures = grey + (pictures - grey) * saturation
    pictures = mean + (pictures - mean) * contrast
    return (pictures * gain * dark).clamp_(0, 1)


def jpeg(picture: Tensor, quality: int) -> Tensor:
    """One picture (3, H, W) after JPEG at a quality."""
    pixels = picture.permute(1, 2, 0).mul(255).round().byte().numpy()
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file))
    return torch.from_numpy(decoded.copy()).permute(2, 0, 1).float().div_(255)


def damage(pictures: Tensor, rng: Generator) -> Tensor:
    """Blur, sharpening, noise and JPEG, each on a few, in place."""
    count = len(pictures)
    blurred = chance(rng, BLUR, count)
    if blurred.any():
        pictures[blurred] = blur(pictures[blurred], float(uniform(rng, 0.5, 1.6, 1)))
    sharp = chance(rng, SHARPEN, count) & ~blurred
    if sharp.any():
        soft = blur(pictures[sharp], 1.0)
        pictures[sharp] += (pictures[sharp] - soft) * float(uniform(rng, 0.3, 1.2, 1))
    noisy = chance(rng, NOISE, count)
    if noisy.any():
        pictures[noisy] += torch.randn(pictures[noisy].shape, generator=rng) * float(uniform(rng, 0.01, 0.08, 1))
    pictures.clamp_(0, 1)
    for index in chance(rng, JPEG, count).nonzero().flatten().tolist():
        pictures[index] = jpeg(pictures[index], int(torch.randint(20, 80, (1,), generator=rng)))
    return pictures


def make_batch(pairs: Pairs, indices: np.ndarray, pool: np.ndarray, side: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """A training batch.

    Parameters
    ----------
    pairs : Pairs
    indices : ndarray, shape (B,), int
        Pictures of the batch.
    pool : ndarray, int
        Pictures with an empty window, see ``WINDOW``.
    side : int
        Side of what the network gets.
    rng : Generator

    Returns
    -------
    pictures : Tensor, shape (B, 3, side, side), [0, 1]
    masks : Tensor, shape (B, 1, side, side), [0, 1]
    """
    count = len(indices)
    views = resample(take(pairs, indices), affine(rng, count), side)
    pictures, masks = views[:, :3].contiguous(), views[:, 3:].contiguous()
    fate = torch.rand(count, generator=rng)
    moved = (fate < COMPOSITE) & (len(pool) > 0)
    studio = (fate >= COMPOSITE) & (fate < COMPOSITE + STUDIO)
    nothing = fate >= 1 - NOTHING
    pierced = (moved | studio) & chance(rng, PIERCED, count)
    holes = torch.zeros_like(masks)
    if pierced.any():
        holes[pierced] = pierce(masks[pierced], rng)
    if moved.any():
        behind = backgrounds(pairs, rng, pool, int(moved.sum()), side)
        pictures[moved] = compose(pictures[moved], masks[moved], holes[moved], behind)
    if studio.any():
        behind = backdrops(rng, int(studio.sum()), side)
        pictures[studio] = compose(pictures[studio], masks[studio], holes[studio], behind)
    masks = masks * (1 - holes)
    if len(pool) and nothing.any():
        pictures[nothing] = backgrounds(pairs, rng, pool, int(nothing.sum()), side)
        masks[nothing] = 0
    return damage(relight(pictures, rng), rng), masks
