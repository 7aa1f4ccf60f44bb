"""Decontamination: the subject's own colours, without the background's light in the soft edge."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from rmbg.matte import IN, OUT, tiles

#: Pixels of the copy that colours are estimated on. More costs time and changes nothing that can be seen: the last step at full
#: size puts the detail back.
WORKING_PIXELS = 1_000_000

#: How much colours are drawn to their neighbours' where alpha is flat: the paper's value.
REGULARISATION = np.float32(1e-5)

#: Rounds on levels of at most so many pixels a side, and on larger ones.
COARSE_SIDE, COARSE_SWEEPS, FINE_SWEEPS = 32, 10, 2


def estimate_foreground(rgb: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Colours F such that the photo is alpha * F + (1 - alpha) * B with smooth F and B.

    On a copy of about one megapixel, F and B come from the multi-level method of T. Germer, T. Uelwer, S. Conrad and S.
    Harmeling, "Fast Multi-Level Foreground Estimation", ICPR 2020. At full size one step towards the compositing
    equation restores the detail that the copy had lost: F + alpha * (I - alpha * F - (1 - alpha) * B), equation 7 of M. Forte,
    "Approximate Fast Foreground Colour Estimation", ICIP 2021. Where alpha is one the photo's own pixels are kept.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    matte : float32 array (H, W)
        Alpha in [0, 1].

    Returns
    -------
    uint8 array (H, W, 3)
        Straight colours, to be blended by `matte`. Black where alpha is zero: what was removed must not be
        recoverable from a file.
    """
    result = np.where((matte >= IN)[..., None], rgb, np.uint8(0))
    soft = (matte > OUT) & (matte < IN)
    if not soft.any():
        return result
    rows, columns = _window(soft)
    result[rows, columns] = _in_window(rgb[rows, columns], matte[rows, columns], result[rows, columns])
    return result


def _window(soft: np.ndarray, room: int = 32) -> tuple[slice, slice]:
    """The part of the picture that soft pixels are in, with some pixels of both sides around it."""
    rows, columns = np.flatnonzero(soft.any(axis=1)), np.flatnonzero(soft.any(axis=0))
    height, width = soft.shape
    return (
        slice(max(0, rows[0] - room), min(height, rows[-1] + 1 + room)),
        slice(max(0, columns[0] - room), min(width, columns[-1] + 1 + room)),
    )


def _in_window(rgb: np.ndarray, matte: np.ndarray, result: np.ndarray) -> np.ndarray:
    height, width = matte.shape
    scale = min(1.0, (WORKING_PIXELS / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
    alpha = np.asarray(Image.fromarray(matte).resize(size, Image.Resampling.BOX))
    fore, back = multilevel(small, alpha)
    planes = [
        Image.fromarray(np.ascontiguousarray(colours[..., c], dtype=np.float32)) for colours in (fore, back) for c in range(3)
    ]
    across, down = size[0] / width, size[1] / height
    for part_rows, part_columns in tiles(height, width):
        a = matte[part_rows, part_columns]
        soft = (a > OUT) & (a < IN)
        if not soft.any():
            continue
        box = part_columns.start * across, part_rows.start * down, part_columns.stop * across, part_rows.stop * down
        shape = a.shape[1], a.shape[0]
        part, source = result[part_rows, part_columns], rgb[part_rows, part_columns]
        weight = a[soft]
        for c in range(3):
            f = np.asarray(planes[c].resize(shape, Image.Resampling.BILINEAR, box=box))[soft]
            b = np.asarray(planes[3 + c].resize(shape, Image.Resampling.BILINEAR, box=box))[soft]
            seen = source[..., c][soft] * np.float32(1 / 255)
            value = f + weight * (seen - weight * f - (1 - weight) * b)
            channel = part[..., c]
            channel[soft] = np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)
    return result


def multilevel(image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smooth foreground and background colours that explain an image, from coarse to fine.

    The method of Germer et al. (see above), equations 4 to 7: at each level of a pyramid both colours of every pixel are moved
    to the solution of a 2 x 2 system that weighs the compositing equation against their neighbours, more strongly across
    edges of alpha. All pixels of a level are solved at once from their neighbours' last values, where the paper goes from
    pixel to pixel: one more sweep makes up for it, and nothing has to be compiled.

    Parameters
    ----------
    image : float32 array (H, W, 3)
        In [0, 1].
    alpha : float32 array (H, W)
        In [0, 1].

    Returns
    -------
    foreground, background : float32 arrays (H, W, 3)
        In [0, 1].
    """
    height, width = alpha.shape
    levels = max(1, math.ceil(math.log2(max(height, width))))
    weight = alpha[..., None]
    fore = np.full((1, 1, 3), (image * weight).sum((0, 1)) / max(float(alpha.sum()), 1e-6), np.float32)
    back = np.full((1, 1, 3), (image * (1 - weight)).sum((0, 1)) / max(float((1 - alpha).sum()), 1e-6), np.float32)
    for level in range(levels + 1):
        rows, columns = (max(1, round(side ** (level / levels))) for side in (height, width))
        pick = _nearest(height, rows), _nearest(width, columns)
        part, a = image[np.ix_(*pick)], alpha[np.ix_(*pick)]
        up = _nearest(fore.shape[0], rows), _nearest(fore.shape[1], columns)
        fore, back = fore[np.ix_(*up)], back[np.ix_(*up)]
        sweeps = COARSE_SWEEPS if max(rows, columns) <= COARSE_SIDE else FINE_SWEEPS
        fore, back = _solve(part, a, fore, back, sweeps)
    return fore, back


def _nearest(old: int, new: int) -> np.ndarray:
    """Indices that resample `old` places to `new` ones."""
    return np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.intp)


def _solve(
    image: np.ndarray, alpha: np.ndarray, fore: np.ndarray, back: np.ndarray, sweeps: int
) -> tuple[np.ndarray, np.ndarray]:
    """`sweeps` rounds at one level; colours are float32 (h, w, 3)."""
    pairs = [REGULARISATION + np.abs(alpha - near) for near in _neighbours(alpha)]
    total = sum(pairs)
    a, b = alpha, 1 - alpha
    first, cross, second = a * a + total, a * b, b * b + total
    scale = (1 / (first * second - cross * cross))[..., None]
    first, cross, second, a, b = (plane[..., None] for plane in (first, cross, second, a, b))
    pairs = [pair[..., None] for pair in pairs]
    for _ in range(sweeps):
        left, right = a * image, b * image
        for pair, near_fore, near_back in zip(pairs, _neighbours(fore), _neighbours(back), strict=True):
            left += pair * near_fore
            right += pair * near_back
        fore = np.clip((second * left - cross * right) * scale, 0.0, 1.0)
        back = np.clip((first * right - cross * left) * scale, 0.0, 1.0)
    return fore, back


def _neighbours(plane: np.ndarray) -> list[np.ndarray]:
    """The planes of left, right, upper and lower neighbours; at the border a pixel is its own."""
    return [
        np.concatenate([plane[:, :1], plane[:, :-1]], axis=1),
        np.concatenate([plane[:, 1:], plane[:, -1:]], axis=1),
        np.concatenate([plane[:1], plane[:-1]], axis=0),
        np.concatenate([plane[1:], plane[-1:]], axis=0),
    ]
