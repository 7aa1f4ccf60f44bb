"""Common post-processing of all providers, from a matte to the arrays of a cutout."""

from __future__ import annotations

import numpy as np

from rmbg import telemetry
from rmbg.images.hidden import fill_hidden
from rmbg.images.photo import Photo
from rmbg.matting.foreground import SmoothColors, estimate_foreground, smooth_colors


def finish(
    photo: Photo,
    matte: np.ndarray,
    *,
    foreground: np.ndarray | None = None,
    own_alpha_applied: bool = False,
    colors: SmoothColors | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Clip a matte, estimate the foreground and multiply in the photo's own alpha.

    Parameters
    ----------
    photo : Photo
    matte : float array (H, W)
        Alpha in [0, 1] at the photo's size, as the provider returned it.
    foreground : uint8 array (H, W, 3), optional
        Colors that the provider has decontaminated. By default they are estimated from photo and matte.
    own_alpha_applied : bool
        True if the photo's own alpha is already in `matte`. It limits the result and is not multiplied in again.
    colors : SmoothColors, optional
        Those of a similar matte of the photo, by `shared_colors`: faster, with a larger error.

    Returns
    -------
    matte : float32 (H, W)
        In [0, 1].
    foreground : uint8 (H, W, 3)
        Straight colors.
    """
    with telemetry.phase("post-processing"):
        return _finish(photo, matte, foreground, own_alpha_applied, colors)


def _finish(
    photo: Photo, matte: np.ndarray, foreground: np.ndarray | None, own_alpha_applied: bool, colors: SmoothColors | None
) -> tuple[np.ndarray, np.ndarray]:
    matte = matte.astype(np.float32, copy=False)
    if matte.min() < 0 or matte.max() > 1:
        matte = np.clip(matte, 0.0, 1.0)
    if photo.alpha is None:
        return matte, estimate_foreground(photo.rgb, matte, colors=colors) if foreground is None else foreground
    own = photo.alpha.astype(np.float32) / np.float32(255)
    if own_alpha_applied:
        matte = _straight(matte, own)
    if foreground is None:
        # Colors of a file with transparency are straight: the mixture that has to be undone is the one of `matte` alone.
        foreground = estimate_foreground(fill_hidden(photo.rgb, photo.alpha), matte, colors=colors)
    return matte * own, foreground


def shared_colors(photo: Photo, matte: np.ndarray) -> SmoothColors:
    """Estimate the smooth colors of a photo, to be used for several mattes.

    Parameters
    ----------
    photo : Photo
    matte : float32 array (H, W)
        Alpha in [0, 1], the photo's own alpha multiplied in.
    """
    if photo.alpha is None:
        return smooth_colors(photo.rgb, matte)
    own = photo.alpha.astype(np.float32) / np.float32(255)
    return smooth_colors(fill_hidden(photo.rgb, photo.alpha), _straight(matte, own))


def _straight(matte: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Divide a matte by the photo's own alpha, which limits it: float32 (H, W)."""
    return np.divide(np.minimum(matte, own), own, out=np.zeros_like(matte), where=own > 0)
