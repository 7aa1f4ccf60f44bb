"""Common post-processing of all providers, from a matte to the arrays of a cutout."""

from __future__ import annotations

import numpy as np

from rmbg import telemetry
from rmbg.images.hidden import fill_hidden
from rmbg.images.photo import Photo
from rmbg.matting.foreground import estimate_foreground


def finish(
    photo: Photo,
    matte: np.ndarray,
    *,
    foreground: np.ndarray | None = None,
    own_alpha_applied: bool = False,
    draft: bool = False,
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
    draft : bool
        Estimate the colors faster, with a larger error.

    Returns
    -------
    matte : float32 (H, W)
        In [0, 1].
    foreground : uint8 (H, W, 3)
        Straight colors.
    """
    with telemetry.phase("post-processing"):
        return _finish(photo, matte, foreground, own_alpha_applied, draft)


def _finish(
    photo: Photo, matte: np.ndarray, foreground: np.ndarray | None, own_alpha_applied: bool, draft: bool
) -> tuple[np.ndarray, np.ndarray]:
    matte = np.clip(matte, 0.0, 1.0).astype(np.float32, copy=False)
    if photo.alpha is None:
        return matte, estimate_foreground(photo.rgb, matte, draft=draft) if foreground is None else foreground
    own = photo.alpha.astype(np.float32) / np.float32(255)
    if own_alpha_applied:
        matte = np.divide(np.minimum(matte, own), own, out=np.zeros_like(matte), where=own > 0)
    if foreground is None:
        # Colors of a file with transparency are straight: the mixture that has to be undone is the one of `matte` alone.
        foreground = estimate_foreground(fill_hidden(photo.rgb, photo.alpha), matte, draft=draft)
    return matte * own, foreground
