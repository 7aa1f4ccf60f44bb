"""Foreground estimation: the subject's colors without the background's contribution to soft edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rmbg.images.photo import Photo
from rmbg.images.pixels import downscale, fill_hidden
from rmbg.matting.matte import ALPHA_MAX, ALPHA_MIN, pixel_window, tiles
from rmbg.runtime import telemetry
from rmbg.runtime.threads import run_parallel

#: Pixels of the copy that colors are estimated on. A larger one takes longer without a visible difference, as the last step
#: restores the detail at full size.
WORKING_PIXELS = 100_000

#: The same for colors that are used for several mattes of one photo.
SHARED_PIXELS = 40_000

#: Weight of a neighbor's color where alpha is constant (epsilon_r of the paper).
REGULARIZATION = np.float32(1e-5)

#: Iterations on levels of at most `COARSE_SIDE` pixels a side, and on larger ones.
COARSE_SIDE, COARSE_ITERATIONS, FINE_ITERATIONS = 32, 10, 2

#: Opaque and fully transparent pixels, in each direction, that the estimate takes samples from beside the soft ones.
WINDOW_MARGIN = 32


@dataclass(frozen=True, eq=False)
class SmoothColors:
    """Smooth colors of foreground and background for the whole photo, at a smaller size.

    Attributes
    ----------
    foreground, background : float32 arrays (3, h, w)
        In [0, 1].
    """

    foreground: np.ndarray
    background: np.ndarray

    def inverted(self) -> SmoothColors:
        """The colors of the inverted matte."""
        return SmoothColors(self.background, self.foreground)


def estimate_foreground(rgb: np.ndarray, matte: np.ndarray, *, colors: SmoothColors | None = None) -> np.ndarray:
    """Estimate colors F such that the photo is alpha * F + (1 - alpha) * B with smooth F and B.

    On a copy of about `WORKING_PIXELS`, F and B come from the multi-level method of T. Germer, T. Uelwer, S. Conrad and S.
    Harmeling, "Fast Multi-Level Foreground Estimation", ICPR 2020. At full size one step toward the compositing
    equation restores the detail that the copy had lost: F + alpha * (I - alpha * F - (1 - alpha) * B), equation 7 of M. Forte,
    "Approximate Fast Foreground Color Estimation", ICIP 2021. Where alpha is one the photo's own pixels are kept.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    matte : float32 array (H, W)
        Alpha in [0, 1].
    colors : SmoothColors, optional
        Those of a similar matte by `smooth_colors`: faster, with a larger error. By default they are estimated.

    Returns
    -------
    uint8 array (H, W, 3)
        Straight colors, to be blended by `matte`. Black where alpha is zero, so that removed pixels cannot be recovered from a
        saved file.
    """
    result = np.empty_like(rgb)
    soft = np.zeros(matte.shape, bool)

    def classify(tile: tuple[slice, slice]) -> None:
        alpha = matte[tile]
        low, high = alpha.min(), alpha.max()
        if low >= ALPHA_MAX:
            result[tile] = rgb[tile]
        elif high < ALPHA_MAX:
            result[tile] = 0
        else:
            np.multiply(rgb[tile], (alpha >= ALPHA_MAX)[..., None], out=result[tile])
        if low < ALPHA_MAX and high > ALPHA_MIN:
            soft[tile] = (alpha > ALPHA_MIN) & (alpha < ALPHA_MAX)

    run_parallel(classify, tiles(*matte.shape))
    if not soft.any():
        return result
    if colors is None:
        window = pixel_window(soft, WINDOW_MARGIN)
        colors = smooth_colors(rgb[window], matte[window], WORKING_PIXELS)
    else:
        window = slice(None), slice(None)
    _fill_soft_pixels(rgb[window], matte[window], soft[window], result[window], colors)
    return result


def smooth_colors(rgb: np.ndarray, matte: np.ndarray, pixels: int = SHARED_PIXELS) -> SmoothColors:
    """Estimate the smooth colors of a photo on a copy of about `pixels` pixels; arguments as of `estimate_foreground`."""
    height, width = matte.shape
    scale = min(1.0, (pixels / (height * width)) ** 0.5)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return SmoothColors(*estimate_multilevel(downscale(rgb, *size) / np.float32(255), downscale(matte, *size)))


def _fill_soft_pixels(
    rgb: np.ndarray, matte: np.ndarray, soft_pixels: np.ndarray, result: np.ndarray, colors: SmoothColors
) -> None:
    """Write the estimated colors of soft pixels into `result`, uint8 (h, w, 3), in place."""
    height, width = matte.shape
    planes = [Image.fromarray(plane) for plane in (*colors.foreground, *colors.background)]
    scale_x, scale_y = planes[0].width / width, planes[0].height / height

    def fill_tile(tile: tuple[slice, slice]) -> None:
        soft = soft_pixels[tile]
        if not soft.any():
            return
        # The bounding box of the soft pixels within the tile.
        rows, columns = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(tile, pixel_window(soft, 0), strict=True))
        soft = soft_pixels[rows, columns]
        box = columns.start * scale_x, rows.start * scale_y, columns.stop * scale_x, rows.stop * scale_y
        part_size = soft.shape[1], soft.shape[0]
        a = matte[rows, columns][soft]
        for c in range(3):
            f = np.asarray(planes[c].resize(part_size, Image.Resampling.BILINEAR, box=box))[soft]
            b = np.asarray(planes[3 + c].resize(part_size, Image.Resampling.BILINEAR, box=box))[soft]
            observed = rgb[rows, columns, c][soft] * np.float32(1 / 255)
            value = f + a * (observed - a * f - (1 - a) * b)
            result[rows, columns, c][soft] = np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)

    run_parallel(fill_tile, tiles(height, width))


def estimate_multilevel(image: np.ndarray, alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimate smooth foreground and background colors on a pyramid, from coarse to fine.

    The method of Germer et al. (see `estimate_foreground`), equations 4 to 7. At each level both colors of every pixel are the
    solution of a 2 x 2 system that weighs the compositing equation against the neighbors' colors, with a larger weight across
    edges of alpha. All pixels of a level are updated at once (Jacobi), where the paper updates one after another
    (Gauss-Seidel). One more iteration compensates for it, and the update needs no compiled code.

    Parameters
    ----------
    image : float32 array (H, W, 3)
        In [0, 1].
    alpha : float32 array (H, W)
        In [0, 1].

    Returns
    -------
    foreground, background : float32 arrays (3, H, W)
        In [0, 1].
    """
    height, width = alpha.shape
    levels = max(1, math.ceil(math.log2(max(height, width))))
    image = np.ascontiguousarray(image.transpose(2, 0, 1))
    foreground = ((image * alpha).sum((1, 2), keepdims=True) / max(float(alpha.sum()), 1e-6)).astype(np.float32)
    background = ((image * (1 - alpha)).sum((1, 2), keepdims=True) / max(float((1 - alpha).sum()), 1e-6)).astype(np.float32)
    for level in range(levels + 1):
        rows, columns = (max(1, round(side ** (level / levels))) for side in (height, width))
        down = _nearest(height, rows), _nearest(width, columns)
        up = _nearest(foreground.shape[1], rows), _nearest(foreground.shape[2], columns)
        iterations = COARSE_ITERATIONS if max(rows, columns) <= COARSE_SIDE else FINE_ITERATIONS
        start = _sampled(foreground, *up), _sampled(background, *up)
        foreground, background = _solve(_sampled(image, *down), _sampled(alpha, *down), *start, iterations)
    return foreground, background


def _nearest(old: int, new: int) -> np.ndarray:
    """Indices that resample an axis of `old` pixels to `new` ones by nearest neighbor: intp (new,)."""
    return np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.intp)


def _sampled(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return planes.take(rows, axis=-2).take(columns, axis=-1)


def _solve(
    image: np.ndarray, alpha: np.ndarray, foreground: np.ndarray, background: np.ndarray, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobi iterations at one level of the pyramid; colors are float32 (3, h, w)."""
    weights = [REGULARIZATION + np.abs(alpha - neighbor) for neighbor in _neighbors(alpha)]
    total = sum(weights)
    a, b = alpha, 1 - alpha
    # The symmetric system [[m11, m12], [m12, m22]] @ (foreground, background) = (r1, r2), solved by Cramer's rule.
    m11, m12, m22 = a * a + total, a * b, b * b + total
    determinant = m11 * m22 - m12 * m12
    inverse11, inverse12, inverse22 = m22 / determinant, -m12 / determinant, m11 / determinant

    def solve(channels: slice) -> tuple[np.ndarray, np.ndarray]:
        f, g = foreground[channels], background[channels]
        observed1, observed2, product = a * image[channels], b * image[channels], np.empty_like(f)
        for _ in range(iterations):
            r1, r2 = observed1.copy(), observed2.copy()
            for weight, near_f, near_g in zip(weights, _neighbors(f), _neighbors(g), strict=True):
                r1 += np.multiply(weight, near_f, out=product)
                r2 += np.multiply(weight, near_g, out=product)
            f = np.clip(inverse11 * r1 + np.multiply(inverse12, r2, out=product), 0.0, 1.0)
            g = np.clip(inverse22 * r2 + np.multiply(inverse12, r1, out=product), 0.0, 1.0)
        return f, g

    if alpha.size <= COARSE_SIDE**2:
        return solve(slice(3))
    solved = run_parallel(solve, [slice(c, c + 1) for c in range(3)])
    return np.concatenate([f for f, _ in solved]), np.concatenate([g for _, g in solved])


def _neighbors(planes: np.ndarray) -> list[np.ndarray]:
    """Planes of the left, right, upper and lower neighbors, float32 (..., h, w); border pixels are repeated."""
    padded = np.empty((*planes.shape[:-2], planes.shape[-2] + 2, planes.shape[-1] + 2), np.float32)
    padded[..., 1:-1, 1:-1] = planes
    padded[..., 0, 1:-1], padded[..., -1, 1:-1] = planes[..., 0, :], planes[..., -1, :]
    padded[..., 1:-1, 0], padded[..., 1:-1, -1] = planes[..., 0], planes[..., -1]
    return [padded[..., 1:-1, :-2], padded[..., 1:-1, 2:], padded[..., :-2, 1:-1], padded[..., 2:, 1:-1]]


# Post-processing of all providers, from a matte to the arrays of a cutout.


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
        matte = matte.astype(np.float32, copy=False)
        if matte.min() < 0 or matte.max() > 1:
            matte = np.clip(matte, 0.0, 1.0)
        own = None
        if photo.alpha is not None:
            own = photo.alpha.astype(np.float32) / np.float32(255)
            matte = _straight(matte, own) if own_alpha_applied else matte
        if foreground is None:
            # Colors of a file with transparency are straight: the mixture that has to be undone is the one of `matte` alone.
            rgb = photo.rgb if photo.alpha is None else fill_hidden(photo.rgb, photo.alpha)
            foreground = estimate_foreground(rgb, matte, colors=colors)
        return matte if own is None else matte * own, foreground


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
