"""What can be done to a matte: resize, bring to full size by a guide, clean, shift, feather, measure, view.

Pure functions; a matte is a float32 array (H, W) with alpha in [0, 1].
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from scipy import ndimage

#: Below and above these, alpha is taken as fully out and fully in: half a level of 8 bits, and the same from the top.
OUT, IN = 0.5 / 255, 254.5 / 255

#: A line fitted through a blurred edge is too flat: in full it reaches from about here to one minus here. Stretched away.
FLAT = 0.1

#: Side of the tiles that the full-size steps work in: small enough for the cache, large enough for few of them.
TILE = 256


def resize(matte: np.ndarray, height: int, width: int) -> np.ndarray:
    """`matte` at another size: float32 (height, width), bilinear, antialiased where it shrinks."""
    image = Image.fromarray(np.ascontiguousarray(matte, dtype=np.float32))
    return np.clip(np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)), 0.0, 1.0)


def upsample_guided(
    matte: np.ndarray, rgb: np.ndarray, *, guide_side: int = 768, reach: float = 3.0, epsilon: float = 1e-4
) -> np.ndarray:
    """A small matte at the photo's size, its edges drawn to the photo's own edges.

    The fast guided filter with a colour guide: K. He and J. Sun, "Fast Guided Filter", arXiv 1505.00996, 2015, after K. He,
    J. Sun and X. Tang, "Guided Image Filtering", TPAMI 35(6), 2013, equations 19 to 21. In each window the matte is fitted as a
    linear function of the colour on a small copy of the photo; the functions' coefficients, not the matte, are brought to full
    size and applied to the photo's own pixels. Only tiles that hold a soft pixel are computed: elsewhere the matte is
    constant.

    Parameters
    ----------
    matte : float array (h, w)
        Alpha in [0, 1] of any size, the whole photo.
    rgb : uint8 array (H, W, 3)
        The photo.
    guide_side : int
        Longest side, in pixels, of the copy that the functions are fitted on.
    reach : float
        Half of the window's side, in pixels of `matte`: an edge can be that far from where it should be.
    epsilon : float
        Regularisation, in squared units of colour in [0, 1]: larger is smoother.

    Returns
    -------
    float32 array (H, W)
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, guide_side / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = Image.fromarray(rgb).resize(small, Image.Resampling.BOX, reducing_gap=1.0)
    guide = np.asarray(reduced, dtype=np.float32) / 255
    target = resize(matte, small[1], small[0])
    radius = max(2, round(reach * max(1.0, small[0] / matte.shape[1], small[1] / matte.shape[0])))
    planes = [Image.fromarray(plane) for plane in _fit(guide, target, radius, epsilon)]
    coarse = Image.fromarray(target)
    touched = ndimage.maximum_filter((target > OUT) & (target < IN), 4 * radius + 1)
    result = np.empty((height, width), np.float32)

    def fill(tile: tuple[slice, slice]) -> None:
        rows, columns = tile
        box = _box(rows, columns, small[0] / width, small[1] / height)
        size = columns.stop - columns.start, rows.stop - rows.start
        if not touched[_inside(box, touched.shape)].any():
            result[rows, columns] = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR, box=box))
            return
        *slopes, value = (np.array(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in planes)
        for channel, slope in enumerate(slopes):
            slope *= rgb[rows, columns, channel]
            value += slope
        value -= FLAT
        value /= 1 - 2 * FLAT
        np.clip(value, 0.0, 1.0, out=result[rows, columns])

    with ThreadPoolExecutor(os.cpu_count()) as cores:
        list(cores.map(fill, tiles(height, width)))
    return result


def _fit(guide: np.ndarray, target: np.ndarray, radius: int, epsilon: float) -> list[np.ndarray]:
    """Coefficients of the window-wise linear functions of colour: three slopes, for colours from 0 to 255, and the offset.

    All are float32 (h, w), averaged over the windows that a pixel lies in (equation 21).
    """
    side = 2 * radius + 1

    def mean(plane: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(plane, side, mode="nearest")

    def mean_of_product(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return mean(pair[0] * pair[1])

    r, g, b = (np.ascontiguousarray(guide[..., c]) for c in range(3))
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        mr, mg, mb, level = cores.map(mean, (r, g, b, target))
        pairs = [(r, target), (g, target), (b, target), (r, r), (r, g), (r, b), (g, g), (g, b), (b, b)]
        tr, tg, tb, rr, rg, rb, gg, gb, bb = cores.map(mean_of_product, pairs)
        tr, tg, tb = tr - mr * level, tg - mg * level, tb - mb * level
        rr, gg, bb = rr - mr * mr + epsilon, gg - mg * mg + epsilon, bb - mb * mb + epsilon
        rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
        # The inverse of the symmetric 3 x 3 covariance by its cofactors: a general solver takes six times as long.
        c1, c2, c3 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
        c4, c5, c6 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
        scale = 1 / (rr * c1 + rg * c2 + rb * c3)
        slopes = [
            (c1 * tr + c2 * tg + c3 * tb) * scale,
            (c2 * tr + c4 * tg + c5 * tb) * scale,
            (c3 * tr + c5 * tg + c6 * tb) * scale,
        ]
        offset = level - slopes[0] * mr - slopes[1] * mg - slopes[2] * mb
        *averaged, offset = cores.map(mean, (*slopes, offset))
    return [slope * np.float32(1 / 255) for slope in averaged] + [offset]


def tiles(height: int, width: int, side: int = TILE) -> list[tuple[slice, slice]]:
    """Slices (rows, columns) that cover an array of `height` x `width` without overlap."""
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def _box(rows: slice, columns: slice, across: float, down: float) -> tuple[float, float, float, float]:
    """A tile as (left, top, right, bottom) in the coordinates of a copy that is scaled by `across` and `down`."""
    return columns.start * across, rows.start * down, columns.stop * across, rows.stop * down


def _inside(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    left, top, right, bottom = box
    return slice(int(top), min(int(bottom) + 1, shape[0])), slice(int(left), min(int(right) + 1, shape[1]))


def steepen(matte: np.ndarray, slope: float = 2.0) -> np.ndarray:
    """The edge made `slope` times as steep around one half: networks draw edges softer than they are."""
    return np.clip((matte - 0.5) * slope + 0.5, 0.0, 1.0).astype(np.float32)


def clean(matte: np.ndarray, *, specks: float = 0.001, holes: float = 0.0005) -> np.ndarray:
    """Without islands and holes that are too small to be meant.

    Parameters
    ----------
    matte : float array (H, W)
    specks, holes : float
        Islands of alpha and holes in it that cover less than this share of the picture go; 0 keeps them all. The largest
        island always stays.

    Returns
    -------
    float32 array (H, W)
    """
    result = matte.astype(np.float32, copy=True)
    islands, count = ndimage.label(result > OUT)
    if specks > 0 and count > 1:
        area = np.bincount(islands.ravel())
        area[0] = 0
        small = area < specks * matte.size
        small[[0, int(area.argmax())]] = False
        result[small[islands]] = 0.0
    gaps, count = ndimage.label(result < 0.5)
    if holes > 0 and count:
        area = np.bincount(gaps.ravel())
        small = area < holes * matte.size
        small[0] = False
        result[small[gaps]] = 1.0
    return result


def shift(matte: np.ndarray, pixels: float) -> np.ndarray:
    """The edge moved outward by `pixels` (inward where negative), in parts of a pixel, its softness kept.

    Grey dilation and erosion by a disc; between two whole radii the two results are mixed.
    """
    if pixels == 0:
        return matte.astype(np.float32, copy=True)
    whole, part = int(abs(pixels)), abs(pixels) % 1
    grow = ndimage.grey_dilation if pixels > 0 else ndimage.grey_erosion

    def by(radius: int) -> np.ndarray:
        return grow(matte, footprint=_disc(radius)) if radius else matte

    result = by(whole) if part == 0 else (1 - part) * by(whole) + part * by(whole + 1)
    return result.astype(np.float32)


def _disc(radius: int) -> np.ndarray:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= (radius + 0.25) ** 2


def feather(matte: np.ndarray, pixels: float) -> np.ndarray:
    """The edge softened by a Gaussian of standard deviation `pixels`."""
    if pixels <= 0:
        return matte.astype(np.float32, copy=True)
    return np.clip(ndimage.gaussian_filter(matte.astype(np.float32), pixels, mode="nearest"), 0.0, 1.0)


def invert(matte: np.ndarray) -> np.ndarray:
    """What was kept goes, and the other way round."""
    return (1.0 - matte).astype(np.float32)


def subject_box(matte: np.ndarray, *, margin: float = 0.0, threshold: float = 0.05) -> tuple[slice, slice]:
    """The subject's bounding box as (rows, columns), for cropping.

    Parameters
    ----------
    matte : float array (H, W)
    margin : float
        Room around the subject as a share of the box's longer side; never beyond the picture.
    threshold : float
        Alpha from which on a pixel belongs to the subject. An empty matte gives the whole picture.
    """
    seen = matte > threshold
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if rows.size == 0:
        return slice(0, matte.shape[0]), slice(0, matte.shape[1])
    room = round(margin * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    top, left = max(0, int(rows[0]) - room), max(0, int(columns[0]) - room)
    bottom, right = int(rows[-1]) + 1 + room, int(columns[-1]) + 1 + room
    return slice(top, min(bottom, matte.shape[0])), slice(left, min(right, matte.shape[1]))


def to_bytes(matte: np.ndarray) -> np.ndarray:
    """The matte as uint8 (H, W), rounded to the nearest level."""
    return (matte * np.float32(255) + np.float32(0.5)).astype(np.uint8)
