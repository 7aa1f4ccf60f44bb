"""Compositing of several layers in one pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rmbg.threads import row_strips

#: Colors, uint8 (H, W, 3) or (3,), and coverage, float32 (H, W) in [0, 1].
Layer = tuple[np.ndarray, np.ndarray]

#: Rows that are composited at a time, to keep the float copies small.
STRIP_ROWS = 128


def composite(layers: Sequence[Layer], background: np.ndarray | None) -> np.ndarray:
    """Composite layers over a background.

    Parameters
    ----------
    layers : sequence of (colors, coverage)
        From bottom to top; at least one.
    background : array or None
        In [0, 255], of a shape that broadcasts to (H, W, 3); None for transparency.

    Returns
    -------
    uint8 array (H, W, 3), or (H, W, 4) with straight alpha without a background
        Rounded once. Black where alpha is 0.
    """
    height, width = layers[0][1].shape
    base = None if background is None else np.broadcast_to(background, (height, width, 3))
    result = np.empty((height, width, 4 if base is None else 3), np.uint8)
    for rows in row_strips(height, STRIP_ROWS):
        strip = layers[0][1][rows].shape
        colors = np.zeros((*strip, 3), np.float32) if base is None else base[rows].astype(np.float32)
        total = np.zeros((*strip, 1), np.float32)
        for paint, coverage in layers:
            alpha = coverage[rows, :, None]
            painted = paint if paint.ndim == 1 else paint[rows]
            colors += alpha * (painted - colors)
            if base is None:
                total += alpha * (1 - total)
        if base is None:
            # The colors are premultiplied here.
            result[rows, :, 3:] = total * 255 + np.float32(0.5)
            colors = np.where(result[rows, :, 3:] > 0, colors / np.maximum(total, 1e-6), 0)
        result[rows, :, :3] = np.clip(colors + np.float32(0.5), 0, 255)
    return result
