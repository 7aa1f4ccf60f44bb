"""Decontamination: the subject's own colours, without the background's light in the soft edge."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rmbg.matte import IN, OUT, tiles

#: Pixels of the copy that colours are estimated on. More costs time and changes nothing that can be seen: the last step at full
#: size puts the detail back.
WORKING_PIXELS = 1_000_000


def estimate_foreground(rgb: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """Colours F such that the photo is alpha * F + (1 - alpha) * B with smooth F and B.

    On a copy of about one megapixel, F and B come from the multi-level method of T. Germer, T. Uelwer, S. Conrad and S.
    Harmeling, "Fast Multi-Level Foreground Estimation", ICPR 2020 (pymatting). At full size one step towards the compositing
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
    from pymatting import estimate_foreground_ml  # compiles with numba: seconds on a fresh machine, so only when needed

    height, width = matte.shape
    scale = min(1.0, (WORKING_PIXELS / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX), dtype=np.float32) / 255
    alpha = np.asarray(Image.fromarray(matte).resize(size, Image.Resampling.BOX))
    fore, back = estimate_foreground_ml(small, alpha, return_background=True)
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
