"""Placement of a photo on a canvas: geometry and resampling. All functions are pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from rmbg.render.canvas import Canvas

#: Antialiased where it shrinks; its overshoot is cut off, so that no ring appears around the subject.
FILTER = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Placement:
    """Rectangle of the whole photo on a canvas, in pixels of the canvas; parts of it may lie outside."""

    left: int
    top: int
    width: int
    height: int
    canvas: Canvas

    def visible(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas that the photo covers; empty slices if it is outside."""
        top, left = max(0, self.top), max(0, self.left)
        bottom = max(top, min(self.canvas.height, self.top + self.height))
        right = max(left, min(self.canvas.width, self.left + self.width))
        return slice(top, bottom), slice(left, right)


def place(canvas: Canvas, box: tuple[slice, slice], height: int, width: int) -> Placement:
    """Return the placement that fits a subject into a canvas.

    Parameters
    ----------
    canvas : Canvas
    box : (slice, slice)
        Rows and columns of the subject's bounding box.
    height, width : int
        Size of the photo.

    Returns
    -------
    Placement
        The center of the subject, or its lower side, is exact to half a pixel.
    """
    rows, columns = box
    subject_height, subject_width = rows.stop - rows.start, columns.stop - columns.start
    padding = canvas.padding_pixels
    if canvas.align == "bottom":
        scale = (canvas.height - padding) / subject_height
    else:
        scale = min((canvas.width - 2 * padding) / subject_width, (canvas.height - 2 * padding) / subject_height)
    scale *= canvas.scale / 100
    scaled_height, scaled_width = max(1, round(height * scale)), max(1, round(width * scale))
    down, right = scaled_height / height, scaled_width / width
    left = canvas.width * (0.5 + canvas.x / 100) - (columns.start + columns.stop) / 2 * right
    if canvas.align == "bottom":
        top = canvas.height * (1 + canvas.y / 100) - rows.stop * down
    else:
        top = canvas.height * (0.5 + canvas.y / 100) - (rows.start + rows.stop) / 2 * down
    return Placement(round(left), round(top), scaled_width, scaled_height, canvas)


def place_subject(foreground: np.ndarray, matte: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Resample a subject on its canvas, colors weighted by alpha.

    Parameters
    ----------
    foreground : uint8 array (H, W, 3)
        Straight colors.
    matte : float32 array (H, W)
        Alpha in [0, 1].
    placement : Placement

    Returns
    -------
    foreground : uint8 array (canvas height, canvas width, 3)
    matte : float32 array (canvas height, canvas width)
        Zero outside of the photo. Unchanged pixels if the scale is 1.
    """
    canvas = placement.canvas
    colors = np.zeros((canvas.height, canvas.width, 3), np.uint8)
    alpha = np.zeros((canvas.height, canvas.width), np.float32)
    target = placement.visible()
    if alpha[target].size == 0:
        return colors, alpha
    alpha[target] = np.clip(_resampled(matte, placement), 0, 1)
    weight = np.maximum(alpha[target], np.float32(1e-4))
    for channel in range(3):
        premultiplied = _resampled(foreground[..., channel] * matte, placement)
        colors[..., channel][target] = np.clip(premultiplied / weight + np.float32(0.5), 0, 255)
    return colors, alpha


def place_photo(rgb: np.ndarray, alpha: np.ndarray | None, placement: Placement) -> np.ndarray:
    """Resample a photo on its canvas: uint8 (canvas height, canvas width, 4), transparent outside of the photo."""
    own = np.ones(rgb.shape[:2], np.float32) if alpha is None else alpha * np.float32(1 / 255)
    colors, matte = place_subject(rgb, own, placement)
    return np.dstack([colors, (matte * np.float32(255) + np.float32(0.5)).astype(np.uint8)])


def _resampled(plane: np.ndarray, placement: Placement) -> np.ndarray:
    """Resample the visible part of a float32 plane (H, W)."""
    rows, columns = placement.visible()
    height, width = plane.shape
    down, right = height / placement.height, width / placement.width
    box = (
        (columns.start - placement.left) * right,
        (rows.start - placement.top) * down,
        min(width, (columns.stop - placement.left) * right),
        min(height, (rows.stop - placement.top) * down),
    )
    size = columns.stop - columns.start, rows.stop - rows.start
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, FILTER, box=box))
