"""Alpha blending of sRGB bytes."""

from __future__ import annotations

import numpy as np

from rmbg.threads import row_strips, run_parallel

#: Rows that are processed at a time, so that intermediate arrays fit into the CPU's cache.
STRIP_ROWS = 64


def cut_out(foreground: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Join colors and alpha into one array.

    Parameters
    ----------
    foreground : uint8 array (H, W, 3)
    alpha : uint8 array (H, W)

    Returns
    -------
    uint8 array (H, W, 4)
        Black where alpha is 0, so that removed pixels cannot be recovered.
    """
    result = np.empty((*alpha.shape, 4), np.uint8)
    pixels = result.view(np.uint32)[..., 0]

    def join(rows: slice) -> None:
        result[rows, :, :3] = foreground[rows]
        result[rows, :, 3] = alpha[rows]
        pixels[rows] *= alpha[rows] != 0

    run_parallel(join, row_strips(len(alpha), STRIP_ROWS))
    return result


def blend(foreground: np.ndarray, matte: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Composite a foreground over a background: alpha * F + (1 - alpha) * B.

    Parameters
    ----------
    foreground : uint8 array (H, W, 3)
    matte : float32 array (H, W)
        Alpha in [0, 1].
    background : array
        In [0, 255], of a shape that broadcasts to (H, W, 3).

    Returns
    -------
    uint8 array (H, W, 3)
        Rounded once, exact to half a level.
    """
    background = np.broadcast_to(background, foreground.shape)
    result = np.empty(foreground.shape, np.uint8)

    def composite(rows: slice) -> None:
        alpha = matte[rows, :, None]
        base = background[rows].astype(np.float32)
        result[rows] = base + alpha * (foreground[rows] - base) + np.float32(0.5)

    run_parallel(composite, row_strips(len(matte), STRIP_ROWS))
    return result
