"""Operations on pixels: colors from text, blending, filling of transparent pixels, downscaling."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageColor

from rmbg.errors import OptionError, printable
from rmbg.images.photo import Photo
from rmbg.runtime.messages import Message
from rmbg.runtime.threads import row_strips, run_parallel

Color = tuple[int, int, int]

#: Maximum length of a color in characters, as in Pillow.
MAX_LENGTH = 100

_NUMBER = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})%?")


def parse_color(text: str) -> Color:
    """Parse a color in CSS notation into red, green and blue, 0 to 255.

    Supported are ``#RGB``, ``#RRGGBB``, color names, and ``rgb()``, ``rgba()``, ``hsl()`` and ``hsla()`` with numbers and
    percentages, separated by commas or spaces. Alpha is ignored.

    Raises
    ------
    OptionError
        If the text is not a color.
    """
    text = str(text)
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError
        text = text.strip()
        name, bracket, arguments = text.lower().partition("(")
        values = _parse_function(name, arguments) if bracket else ImageColor.getrgb(text)
    except ValueError:
        raise OptionError(
            Message("{color} is not a color. Write it as #ff8800 or orange.", color=repr(printable(text, 60)))
        ) from None
    red, green, blue = (min(255, max(0, value)) for value in values[:3])  # CSS clamps values such as 120%
    return red, green, blue


def _parse_function(name: str, arguments: str) -> tuple[int, ...]:
    """Parse functional notation from its name and the text after the opening bracket; ValueError if it is invalid."""
    values = arguments.removesuffix(")").replace(",", " ").replace("/", " ").split()
    if not arguments.endswith(")") or len(values) not in (3, 4) or not all(map(_NUMBER.fullmatch, values)):
        raise ValueError
    if name in ("rgb", "rgba"):
        return tuple(round(float(v[:-1]) * 2.55) if v.endswith("%") else round(float(v)) for v in values[:3])
    return ImageColor.getrgb(f"{name.removesuffix('a')}({', '.join(values[:3])})")


# Alpha blending of sRGB bytes.


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


# Colors of fully transparent pixels, which a file may set to anything.


def fill_hidden(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Replace the colors of fully transparent pixels by those of visible pixels around them.

    A pyramid of means over visible pixels: each transparent pixel takes the color of the finest level that has one (pull-push,
    S. Gortler et al., "The Lumigraph", SIGGRAPH 1996).

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    alpha : uint8 array (H, W)

    Returns
    -------
    uint8 array (H, W, 3)
        `rgb` itself if no pixel is fully transparent; white if all are.
    """
    hidden = alpha == 0
    if not hidden.any():
        return rgb
    if hidden.all():
        return np.full_like(rgb, 255)
    result = rgb.copy()
    result[hidden] = 0
    half = (np.asarray(Image.fromarray(plane).reduce(2), np.float32) for plane in (result, np.uint8(255) * ~hidden))
    colors = _fill(*half)
    rows, columns = np.nonzero(hidden)
    result[rows, columns] = np.clip(colors[rows // 2, columns // 2] + 0.5, 0, 255)
    return result


def _fill(weighted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Colors at every pixel of a level, float32 (h, w, 3), from colors times weights and weights in [0, 255]."""
    height, width = weights.shape
    colors = weighted * (255 / np.maximum(weights, 1))[..., None]
    empty = weights < 1
    if empty.any() and max(height, width) > 1:
        coarse = _fill(_halve(weighted), _halve(weights))
        rows, columns = np.nonzero(empty)
        colors[rows, columns] = coarse[rows // 2, columns // 2]
    return colors


def _halve(plane: np.ndarray) -> np.ndarray:
    """Sums of 2 x 2 pixels, so that a single visible pixel keeps its weight: float32 ((h + 1) // 2, (w + 1) // 2, ...)."""
    height, width = plane.shape[:2]
    padded = np.pad(plane, [(0, height % 2), (0, width % 2)] + [(0, 0)] * (plane.ndim - 2))
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


# Downscaling of arrays by area averages, without converting the whole picture to a PIL image.


#: Rows that are reduced at a time: few enough that the memory of one strip is reused for the next.
DOWNSCALE_STRIP_ROWS = 192


def downscale(
    pixels: np.ndarray,
    width: int,
    height: int,
    resampling: Image.Resampling = Image.Resampling.BOX,
    *,
    box: tuple[float, float, float, float] | None = None,
    reducing_gap: float = 2.0,
) -> np.ndarray:
    """Resize an array with the result of Pillow's ``Image.resize`` with a `reducing_gap`.

    The picture is reduced by whole factors first, in parallel strips of rows, then resized to its final size.

    Parameters
    ----------
    pixels : uint8 array (H, W) or (H, W, 3), or float32 array (H, W)
    width, height : int
        Size of the result; a larger one than that of `pixels` is possible.
    resampling : PIL.Image.Resampling
    box : tuple of 4 float, optional
        The part (left, top, right, bottom) of the picture that is resized, in pixels; by default all of it. Pixels outside have
        no influence.
    reducing_gap : float
        Least ratio, at least 1, of the reduced size to that of the result.

    Returns
    -------
    array
        Of the type of `pixels`. Read-only.
    """
    left, top, right, bottom = box or (0, 0, pixels.shape[1], pixels.shape[0])
    x, y = math.floor(left), math.floor(top)
    across, down = _factors(right - left, bottom - top, width, height, reducing_gap)
    small = reduce(pixels[y : math.ceil(bottom), x : math.ceil(right)], across, down)
    covered = (left - x) / across, (top - y) / down, (right - x) / across, (bottom - y) / down
    return np.asarray(Image.fromarray(np.ascontiguousarray(small)).resize((width, height), resampling, box=covered))


def downscale_weighted(colors: np.ndarray, alpha: np.ndarray, width: int, height: int) -> np.ndarray:
    """Average colors with alpha as weight, as black under alpha zero would cause a dark fringe.

    Parameters
    ----------
    colors : uint8 array (H, W, 3)
    alpha : float32 array (H, W)
        In [0, 1].

    Returns
    -------
    uint8 array (height, width, 3)
    """
    rows, columns = alpha.shape
    across, down = _factors(columns, rows, width, height)

    def weigh(channel: int) -> np.ndarray:
        return _reduce(alpha, across, down, lambda part: colors[part, :, channel] * alpha[part])

    planes = [weigh(channel) for channel in range(3)]
    planes.append(reduce(alpha, across, down))
    size, covered = (width, height), (0, 0, columns / across, rows / down)
    box = Image.Resampling.BOX
    *weighted, total = (np.asarray(Image.fromarray(plane).resize(size, box, box=covered)) for plane in planes)
    averages = np.stack(weighted, axis=-1) / np.maximum(total, np.float32(1e-4))[..., None]
    return np.clip(averages + np.float32(0.5), 0, 255).astype(np.uint8)


def reduce(pixels: np.ndarray, across: int, down: int) -> np.ndarray:
    """Average cells of ``across x down`` pixels, of which the last ones may be incomplete; arguments as of `downscale`."""
    return pixels if across == down == 1 else _reduce(pixels, across, down, pixels.__getitem__)


def reduce_to(rgb: np.ndarray, side: int) -> np.ndarray:
    """Reduce a picture by the largest whole factor that leaves at least `side` pixels on its longer side."""
    factor = max(1, max(rgb.shape[:2]) // side)
    return reduce(rgb, factor, factor)


def _factors(columns: float, rows: float, width: int, height: int, reducing_gap: float = 2.0) -> tuple[int, int]:
    """Whole factors, horizontal and vertical, that leave at least `reducing_gap` times the pixels of the result."""
    return max(1, int(columns / width / reducing_gap)), max(1, int(rows / height / reducing_gap))


def _reduce(like: np.ndarray, across: int, down: int, strip: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Average cells of the picture whose rows `strip` returns, of the shape and type of `like`."""
    height, width = like.shape[:2]
    result = np.empty((-(-height // down), -(-width // across), *like.shape[2:]), like.dtype)
    step = max(1, DOWNSCALE_STRIP_ROWS // down)

    def fill(top: int) -> None:
        pixels = np.ascontiguousarray(strip(slice(top * down, (top + step) * down)))
        result[top : top + step] = np.asarray(Image.fromarray(pixels).reduce((across, down)))

    run_parallel(fill, range(0, len(result), step))
    return result


# Downscaling of a photo: area averages, with alpha as the weight of colors.


def shrink_photo(photo: Photo, side: int) -> Photo:
    """Downscale a photo to at most `side` pixels on its longer side; returns the same photo if it is not larger."""
    scale = side / max(photo.width, photo.height)
    if scale >= 1:
        return photo
    width, height = max(1, round(photo.width * scale)), max(1, round(photo.height * scale))
    rgb, alpha = downscale(photo.rgb, width, height), photo.alpha
    if alpha is not None:
        weighted = downscale_weighted(photo.rgb, alpha.astype(np.float32) / np.float32(255), width, height)
        alpha = downscale(alpha, width, height)
        rgb = np.where((alpha > 0)[..., None], weighted, rgb)
    return Photo(rgb, alpha, photo.name, photo.notes)
