"""Correction of a coarse matte by a network, on a copy of the window around the subject."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from rmbg.images.pixels import downscale
from rmbg.matting.color_prior import sigmoid
from rmbg.matting.guided_filter import GUIDE_PIXELS
from rmbg.matting.matte import bounding_box, box_mean, dilate, resize, sharpen_edges
from rmbg.networks.refiner_spec import SIDE, Forward

#: Space around the subject, as a fraction of its longer side.
MARGIN = 0.15

#: Stretch of the refined alpha around one half. The network returns about 0.01 or 0.99 in flat regions.
SLOPE = 1.25

#: Distance from an edge of the coarse matte up to which it is corrected, and half of the width of the transition to what is
#: kept, in pixels of the network's input. Farther inside, the network takes highlights of shiny subjects for gaps.
REACH, TRANSITION = 7, 4

BILINEAR = Image.Resampling.BILINEAR


def refine(forward: Forward, matte: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Correct a coarse matte near its edges, on the window around the subject, which is resized to a square as in training.

    Parameters
    ----------
    forward : Forward
        The network.
    matte : float32 array (h, w)
        Alpha in [0, 1] of the whole photo, of any shape.
    rgb : uint8 array (H, W, 3)
        The photo.

    Returns
    -------
    float32 array
        Alpha in [0, 1], with the proportions of the photo and the resolution of the network, of at most `GUIDE_PIXELS`.
    """
    height, width = rgb.shape[:2]
    rows, columns = bounding_box(matte, margin=MARGIN)
    y, x = height / matte.shape[0], width / matte.shape[1]
    left, top, right, bottom = columns.start * x, rows.start * y, columns.stop * x, rows.stop * y
    window = downscale(rgb, SIDE, SIDE, BILINEAR, box=(left, top, right, bottom))
    box = (columns.start, rows.start, columns.stop, rows.stop)
    coarse = Image.fromarray(np.ascontiguousarray(matte, np.float32)).resize((SIDE, SIDE), BILINEAR, box=box)
    pixels = np.ascontiguousarray(window.astype(np.float32).transpose(2, 0, 1)[None]) / np.float32(255)
    given = np.array(coarse)
    refined = sharpen_edges(sigmoid(forward(pixels, given[None, None])), SLOPE)
    share = edge_share(given)
    refined = refined * share + given * (1 - share)

    scale = min(1.0, math.sqrt(GUIDE_PIXELS / (height * width)), SIDE / min(right - left, bottom - top))
    result = resize(matte, max(1, round(height * scale)), max(1, round(width * scale)))
    y, x = result.shape[0] / height, result.shape[1] / width
    inner_rows = slice(round(top * y), max(round(top * y) + 1, round(bottom * y)))
    inner_columns = slice(round(left * x), max(round(left * x) + 1, round(right * x)))
    inner = result[inner_rows, inner_columns]
    inner[...] = resize(refined, *inner.shape)
    return result


def edge_share(matte: np.ndarray) -> np.ndarray:
    """Share of the refined matte, float32 (H, W) in [0, 1]: 1 near the edges of a coarse matte, 0 far from them."""
    near = dilate(matte, REACH) + dilate(1 - matte, REACH) > 1.5  # the range of alpha around the pixel is above 0.5
    return box_mean(np.pad(near.astype(np.float32), TRANSITION, mode="edge"), TRANSITION)
