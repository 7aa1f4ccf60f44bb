"""Retouching of a cutout by brush strokes that keep or erase parts of the photo.

Coverage by a stroke falls from 1 to 0 over a ramp around its radius. Strokes are composited in their order over the cutout (T.
Porter and T. Duff, "Compositing Digital Images", SIGGRAPH 1984): ``keep`` draws the photo over it, ``erase`` takes the coverage
away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rmbg.matting.brush import Brush
from rmbg.matting.matte import tiles
from rmbg.matting.strokes import Stroke
from rmbg.threads import run_parallel

#: Side of a tile in pixels.
TILE = 512


def retouch(
    matte: np.ndarray,
    foreground: np.ndarray,
    rgb: np.ndarray,
    strokes: Iterable[Stroke],
    own: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Composite strokes over a cutout.

    Parameters
    ----------
    matte : float32 array (H, W)
        Alpha in [0, 1], the photo's own alpha multiplied in.
    foreground : uint8 array (H, W, 3)
        Straight colors of the cutout.
    rgb : uint8 array (H, W, 3)
        The photo.
    strokes : iterable of Stroke
        In pixels of these arrays, the first one at the bottom. Parts outside of the arrays have no effect.
    own : uint8 array (H, W), optional
        The photo's own alpha, which limits what is kept.

    Returns
    -------
    matte : float32 array (H, W)
    foreground : uint8 array (H, W, 3)
        Black where alpha is zero. Pixels without a stroke are unchanged.
    """
    height, width = matte.shape
    brushes = [Brush(stroke) for stroke in strokes]
    new_matte, new_foreground = matte.copy(), foreground.copy()

    def fill_tile(tile: tuple[slice, slice]) -> None:
        rows, columns = tile
        weights = _weights(brushes, columns.start, rows.start, columns.stop, rows.stop)
        if weights is None:
            return
        kept, rest = weights
        if own is not None:
            kept *= own[tile].astype(np.float32) / np.float32(255)
        rest *= matte[tile]
        alpha = np.minimum(kept + rest, 1)
        total = np.maximum(kept + rest, np.float32(1e-6))[..., None]
        colors = (kept[..., None] * rgb[tile] + rest[..., None] * foreground[tile]) / total
        changed = alpha != matte[tile]
        changed |= kept > 0
        new_matte[tile][changed] = alpha[changed]
        visible = (alpha > 0)[..., None]
        new_foreground[tile][changed] = np.where(visible, colors + np.float32(0.5), 0).astype(np.uint8)[changed]

    run_parallel(fill_tile, tiles(height, width, TILE))
    return new_matte, new_foreground


def _weights(brushes: Sequence[Brush], left: int, top: int, right: int, bottom: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights of photo and cutout in a tile, float32 (h, w) each, after all strokes; None if no stroke covers it."""
    weights = None
    for brush in brushes:
        found = brush.coverage(left, top, right, bottom)
        if found is None:
            continue
        inside, covered = found
        if weights is None:
            size = (bottom - top) * (right - left)
            weights = np.zeros(size, np.float32), np.ones(size, np.float32)
        kept, rest = weights
        uncovered = 1 - covered
        rest[inside] *= uncovered
        kept[inside] = kept[inside] * uncovered + covered if brush.keeps else kept[inside] * uncovered
    if weights is None:
        return None
    shape = bottom - top, right - left
    return weights[0].reshape(shape), weights[1].reshape(shape)
