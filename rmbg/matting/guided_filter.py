"""Edge-aware upsampling of a matte by the fast guided filter."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from scipy import ndimage

from rmbg.matting.matte import ALPHA_MAX, ALPHA_MIN, resize, tiles

#: The linear fit of a blurred edge runs from about this alpha to one minus it; the output is stretched back to [0, 1].
EDGE_STRETCH = 0.1


def upsample_guided(
    matte: np.ndarray, rgb: np.ndarray, *, guide_side: int = 768, radius: float = 3.0, epsilon: float = 1e-4
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
    guide_side : int
        Longest side, in pixels, of the copy that the functions are fitted on.
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
    scale = min(1.0, guide_side / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    reduced = Image.fromarray(rgb).resize(small, Image.Resampling.BOX, reducing_gap=1.0)
    guide = np.asarray(reduced, dtype=np.float32) / 255
    target = resize(matte, small[1], small[0])
    guide_radius = max(2, round(radius * max(1.0, small[0] / matte.shape[1], small[1] / matte.shape[0])))
    planes = [Image.fromarray(plane) for plane in _fit(guide, target, guide_radius, epsilon)]
    coarse = Image.fromarray(target)
    near_edge = ndimage.maximum_filter((target > ALPHA_MIN) & (target < ALPHA_MAX), 4 * guide_radius + 1)
    result = np.empty((height, width), np.float32)

    def fill_tile(tile: tuple[slice, slice]) -> None:
        rows, columns = tile
        box = _scaled_box(rows, columns, small[0] / width, small[1] / height)
        size = columns.stop - columns.start, rows.stop - rows.start
        if not near_edge[_covered(box, near_edge.shape)].any():
            result[rows, columns] = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR, box=box))
            return
        *slopes, value = (np.array(plane.resize(size, Image.Resampling.BILINEAR, box=box)) for plane in planes)
        for channel, slope in enumerate(slopes):
            slope *= rgb[rows, columns, channel]
            value += slope
        value -= EDGE_STRETCH
        value /= 1 - 2 * EDGE_STRETCH
        np.clip(value, 0.0, 1.0, out=result[rows, columns])

    with ThreadPoolExecutor(os.cpu_count()) as executor:
        list(executor.map(fill_tile, tiles(height, width)))
    return result


def _fit(guide: np.ndarray, target: np.ndarray, radius: int, epsilon: float) -> list[np.ndarray]:
    """Fit the matte as a linear function of the color in each window.

    Returns
    -------
    list of four float32 arrays (h, w)
        The slopes for red, green and blue in [0, 255], and the offset, averaged over the windows that contain a pixel
        (equation 21).
    """
    side = 2 * radius + 1

    def mean(plane: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(plane, side, mode="nearest")

    def mean_of_product(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        return mean(pair[0] * pair[1])

    r, g, b = (np.ascontiguousarray(guide[..., c]) for c in range(3))
    with ThreadPoolExecutor(os.cpu_count()) as executor:
        mr, mg, mb, mt = executor.map(mean, (r, g, b, target))
        pairs = [(r, target), (g, target), (b, target), (r, r), (r, g), (r, b), (g, g), (g, b), (b, b)]
        tr, tg, tb, rr, rg, rb, gg, gb, bb = executor.map(mean_of_product, pairs)
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
        offset = mt - slopes[0] * mr - slopes[1] * mg - slopes[2] * mb
        *averaged, offset = executor.map(mean, (*slopes, offset))
    return [slope * np.float32(1 / 255) for slope in averaged] + [offset]


def _scaled_box(rows: slice, columns: slice, scale_x: float, scale_y: float) -> tuple[float, float, float, float]:
    """Box (left, top, right, bottom) of a tile in the coordinates of the guide."""
    return columns.start * scale_x, rows.start * scale_y, columns.stop * scale_x, rows.stop * scale_y


def _covered(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Slices (rows, columns) of all guide pixels that a box overlaps."""
    left, top, right, bottom = box
    return slice(int(top), min(int(bottom) + 1, shape[0])), slice(int(left), min(int(right) + 1, shape[1]))
