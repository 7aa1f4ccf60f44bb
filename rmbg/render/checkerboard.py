"""Checkerboard that stands for transparency on the page."""

from __future__ import annotations

import numpy as np

#: Side of a square in pixels, and its two gray levels.
SQUARE, LEVELS = 8, (236, 198)


def checkerboard(height: int, width: int, square: int = SQUARE) -> np.ndarray:
    """Paint a checkerboard: uint8 (height, width, 3)."""
    rows, columns = np.arange(height) // square, np.arange(width) // square
    light = (rows[:, None] + columns[None]) % 2 == 0
    return np.repeat(np.where(light, *LEVELS).astype(np.uint8)[..., None], 3, axis=2)
