"""Edge-aware upsampling of a matte by the fast guided filter."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from rmbg.images.pixels import downscale
from rmbg.matting.matte import ALPHA_MAX, ALPHA_MIN, box_mean, dilate, resize, tiles
from rmbg.runtime.threads import run_parallel

#: The linear fit of a blurred edge runs from about this alpha to one minus it; the output is stretched back to [0, 1].
EDGE_STRETCH = 0.1

#: Pixels of the copy of the photo that the functions are fitted on. More of them do not lower the edge error.
GUIDE_PIXELS = 250_000

#: Side of the tiles in which the functions are fitted, in pixels of the small copy.
FIT_TILE = 96


def upsample_guided(
    matte: np.ndarray, rgb: np.ndarray, *, guide_pixels: int = GUIDE_PIXELS, radius: float = 3.0, epsilon: float = 1e-4
) -> np.ndarray:
    """Resize a small matte to the photo's size and align its edges with the photo's.

    The fast guided filter with a color guide: K. He and J. Sun, "Fast Guided Filter", arXiv 1505.00996, 2015, after K. He,
    J. Sun and X. Tang, "Guided Image Filtering", TPAMI 35(6), 2013, equations 19 to 21. In each window the matte is fitted as a
    linear function of the color on a small copy of the photo. The coefficients of these functions, not the matte, are resized
    and applied to the photo's pixels. Only tiles with soft pixels are computed, as the matte is constant elsewhere.

    Parameters
    ----------
    matte : float array (h, w)
        Alpha in [0, 1] of the whole photo, of any shape.
    rgb : uint8 array (H, W, 3)
        The photo.
    guide_pixels : int
        Pixels of the copy that the functions are fitted on.
    radius : float
        Half of the window's side, in pixels of `matte`: the largest distance of an edge from its true position.
    epsilon : float
        Regularization, in squared units of color in [0, 1]: larger is smoother.

    Returns
    -------
    float32 array (H, W)
        Alpha in [0, 1].
    """
    height, width = rgb.shape[:2]
    scale = min(1.0, math.sqrt(guide_pixels / (height * width)))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    guide = downscale(rgb, *small, reducing_gap=1.0) / np.float32(255)
    target = resize(matte, small[1], small[0])
    guide_radius = max(2, round(radius * max(1.0, small[0] / matte.shape[1], small[1] / matte.shape[0])))
    coarse = Image.fromarray(target)
    near_edge = dilate((target > ALPHA_MIN) & (target < ALPHA_MAX), 2 * guide_radius)
    planes = [Image.fromarray(plane) for plane in _fit(guide, target, near_edge, guide_radius, epsilon)]
    result = np.empty((height, width), np.float32)

    def fill_tile(tile: tuple[slice, slice]) -> None:
        rows, columns = tile
        scale_x, scale_y = small[0] / width, small[1] / height
        size = columns.stop - columns.start, rows.stop - rows.start
        box = _scaled_box(rows, columns, scale_x, scale_y)
        covered = _covered(box, near_edge.shape)
        near = near_edge[covered]
        if not near.all():
            value = target[covered].flat[0]
            is_constant = bool((target[covered] == value).all())
            result[tile] = value if is_constant else np.asarray(coarse.resize(size, Image.Resampling.BILINEAR, box=box))
        if not near.any():
            return
        # The bounding box of the pixels near an edge within the tile, and one more pixel, which they are interpolated with.
        down, across = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
        top, left = covered[0].start + down[0] - 1, covered[1].start + across[0] - 1
        bottom, right = covered[0].start + down[-1] + 2, covered[1].start + across[-1] + 2
        rows = slice(max(rows.start, int(top / scale_y)), min(rows.stop, math.ceil(bottom / scale_y)))
        columns = slice(max(columns.start, int(left / scale_x)), min(columns.stop, math.ceil(right / scale_x)))
        size = columns.stop - columns.start, rows.stop - rows.start
        box = _scaled_box(rows, columns, scale_x, scale_y)
        *slopes, value = (np.array(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in planes)
        for channel, slope in enumerate(slopes):
            slope *= rgb[rows, columns, channel]
            value += slope
        value -= EDGE_STRETCH
        value /= 1 - 2 * EDGE_STRETCH
        np.clip(value, 0.0, 1.0, out=result[rows, columns])

    run_parallel(fill_tile, tiles(height, width))
    return result


def _fit(guide: np.ndarray, target: np.ndarray, near_edge: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Fit the matte as a linear function of the color in each window.

    Returns
    -------
    float32 array (4, h, w)
        The slopes for red, green and blue in [0, 255], and the offset, averaged over the windows that contain a pixel
        (equation 21). In tiles without `near_edge`, where the matte is constant, the slopes are 0 and the offset is the matte.
    """
    height, width = target.shape
    padded = np.pad(
        np.concatenate([guide.transpose(2, 0, 1), target[None]]), ((0, 0), (radius, radius), (radius, radius)), mode="edge"
    )
    result = np.zeros((4, height, width), np.float32)
    result[3] = target

    def fit_tile(tile: tuple[slice, slice]) -> None:
        rows, columns = tile
        # One pixel more, as the tiles of the photo interpolate between neighbors.
        around = slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, columns.start - 1), columns.stop + 1)
        if not near_edge[around].any():
            return
        top, bottom = max(0, rows.start - radius), min(height, rows.stop + radius)
        left, right = max(0, columns.start - radius), min(width, columns.stop + radius)
        fitted = _fit_windows(padded[:, top : bottom + 2 * radius, left : right + 2 * radius], radius, epsilon)
        beyond = (
            (0, 0),
            (radius - (rows.start - top), radius - (bottom - rows.stop)),
            (radius - (columns.start - left), radius - (right - columns.stop)),
        )
        result[:, rows, columns] = box_mean(np.pad(fitted, beyond, mode="edge"), radius)

    run_parallel(fit_tile, tiles(height, width, FIT_TILE))
    result[:3] *= np.float32(1 / 255)
    return result


def _fit_windows(values: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """Slopes and offset of each window, float32 (4, h, w), from red, green, blue and matte, float32 (4, h + 2r, w + 2r)."""
    colors, matte = values[:3], values[3]
    r, g, b = colors
    means = box_mean(np.concatenate([values, colors * matte, [r * r, r * g, r * b, g * g, g * b, b * b]]), radius)
    mr, mg, mb, mt, tr, tg, tb, rr, rg, rb, gg, gb, bb = means
    tr, tg, tb = tr - mr * mt, tg - mg * mt, tb - mb * mt
    rr, gg, bb = rr - mr * mr + epsilon, gg - mg * mg + epsilon, bb - mb * mb + epsilon
    rg, rb, gb = rg - mr * mg, rb - mr * mb, gb - mg * mb
    # Cofactors of the symmetric 3 x 3 covariance: numpy.linalg.solve takes six times as long.
    c1, c2, c3 = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    c4, c5, c6 = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    inverse_determinant = 1 / (rr * c1 + rg * c2 + rb * c3)
    slopes = [
        (c1 * tr + c2 * tg + c3 * tb) * inverse_determinant,
        (c2 * tr + c4 * tg + c5 * tb) * inverse_determinant,
        (c3 * tr + c5 * tg + c6 * tb) * inverse_determinant,
    ]
    return np.stack([*slopes, mt - slopes[0] * mr - slopes[1] * mg - slopes[2] * mb])


def _scaled_box(rows: slice, columns: slice, scale_x: float, scale_y: float) -> tuple[float, float, float, float]:
    """Box (left, top, right, bottom) of a tile in the coordinates of the guide."""
    return columns.start * scale_x, rows.start * scale_y, columns.stop * scale_x, rows.stop * scale_y


def _covered(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Slices (rows, columns) of all guide pixels that a box overlaps."""
    left, top, right, bottom = box
    return slice(int(top), min(int(bottom) + 1, shape[0])), slice(int(left), min(int(right) + 1, shape[1]))
