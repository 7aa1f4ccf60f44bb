"""Backgrounds: parsing of their notation, and painting at the size of a photo."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from PIL import Image

from rmbg.errors import OptionError, PhotoError, check_text, printable
from rmbg.images.photo import FLATTEN_LEVEL, open_photo
from rmbg.images.pixels import Color, parse_color
from rmbg.render.notation import parse_number, parse_pair, split_list
from rmbg.runtime.threads import row_strips
from rmbg.settings import Settings

#: Standard deviation of the blurred background, as a fraction of the photo's longer side.
BLUR = 0.02

#: Angle of a gradient from top to bottom, in degrees.
DOWN = 180.0

#: Position of a picture, in percent.
CENTER = (50.0, 50.0)

#: Values of ``Background.fit``.
FITS = ("cover", "contain")

#: Share of the background in a cell of the small copy above which the cell's color is used.
MIN_COVERAGE = 0.9


@dataclass(frozen=True, eq=False)
class Background:
    """A background for a cutout.

    Attributes
    ----------
    kind : str
        ``transparent``, ``color``, ``gradient``, ``blur`` or ``image``.
    colors : tuple of (red, green, blue)
        One for a color, two for a gradient; 0 to 255 each.
    image : uint8 array (h, w, 3) or None
        Of any size.
    fit : str
        ``cover``: the picture is scaled to cover the canvas and cropped; ``contain``: all of it is visible, on white.
    position : (x, y)
        Place of the picture in percent as in CSS: 0 is left and top, 50 the center, 100 right and bottom.
    angle : float
        Direction of a gradient in degrees, clockwise, as in CSS: 0 is up, 90 right, 180 down.
    """

    kind: Literal["transparent", "color", "gradient", "blur", "image"] = "transparent"
    colors: tuple[Color, ...] = ()
    image: np.ndarray | None = None
    angle: float = DOWN
    fit: Literal["cover", "contain"] = "cover"
    position: tuple[float, float] = CENTER


TRANSPARENT = Background()
BLURRED = Background("blur")


def parse_background(text: str, *, paths: bool = True, settings: Settings | None = None) -> Background:
    """Parse the notation of backgrounds of the command line and the API.

    ``transparent``, a color, ``blur``, ``gradient:#TOP,#BOTTOM``, ``gradient:#FROM,#TO,ANGLE`` or, unless `paths` is False, the
    path of a picture.

    Raises
    ------
    OptionError
        If the text is none of these.
    """
    given = check_text(text, "The background").strip()
    if given.lower() in ("", "transparent", "none"):
        return TRANSPARENT
    if given.lower() == "blur":
        return BLURRED
    if given.lower().startswith("gradient:"):
        return _parse_gradient(given)
    with suppress(OptionError):
        return Background("color", (parse_color(given),))
    if not paths or given.startswith("#") or not any(mark in given for mark in "./\\"):
        kinds = "transparent, a color such as #ff8800, blur or gradient:#ffffff,#cccccc"
        kinds += ", or the path of a picture" if paths else ""
        raise OptionError(f"{printable(given, 60)!r} is not a background. Use {kinds}.")
    return picture(given, settings=settings)


def _parse_gradient(given: str) -> Background:
    parts = [part for part in split_list(given.partition(":")[2]) if part]
    if len(parts) not in (2, 3):
        raise OptionError("A gradient needs two colors. Write it as gradient:#ffffff,#cccccc or gradient:#ffffff,#cccccc,90.")
    angle = parse_number(parts[2].lower().removesuffix("deg")) if len(parts) == 3 else DOWN
    if not -360 <= angle <= 360:
        raise OptionError(f"The angle of the gradient is {printable(parts[2], 40)!r}; it must be a number from -360 to 360.")
    return gradient(parts[0], parts[1], angle)


def gradient(start: str, end: str, angle: float = DOWN) -> Background:
    """Background with a gradient between two colors, from top to bottom by default."""
    return Background("gradient", (parse_color(start), parse_color(end)), angle=angle)


def picture(source: Any, *, settings: Settings | None = None) -> Background:
    """Background from any image source that `open_photo` accepts."""
    try:
        return Background("image", image=open_photo(source, settings=settings).flattened())
    except PhotoError as error:
        raise OptionError(f"The background cannot be used. {error}") from None


def place_picture(background: Background, fit: str = "", position: str = "") -> Background:
    """Set fit and position of a picture as background.

    Parameters
    ----------
    background : Background
    fit : str
        ``cover`` or ``contain``; empty for the present one.
    position : str
        ``X,Y`` in percent; empty for the present one.

    Raises
    ------
    OptionError
        If a value is invalid, or is given for a background that is not a picture.
    """
    for name, value in (("background-fit", fit), ("background-position", position)):
        if value and background.kind != "image":
            raise OptionError(f"{name} is given without a picture as background. Pass a picture, or omit {name}.")
    if fit and fit not in FITS:
        raise OptionError(f"background-fit is {printable(fit, 40)!r}; it must be {' or '.join(FITS)}.")
    if fit:
        background = replace(background, fit=fit)  # type: ignore[arg-type]
    if position:
        pair = parse_pair(position, "background-position", "X,Y in percent, such as 50,100", 0, 100)
        background = replace(background, position=pair)
    return background


def paint(
    background: Background, rgb: np.ndarray, matte: np.ndarray, foreground: np.ndarray, alpha: np.ndarray | None = None
) -> np.ndarray:
    """Paint a background at the photo's size.

    Parameters
    ----------
    background : Background
        Not transparent.
    rgb : uint8 array (H, W, 3)
        The photo, for the kind ``blur``.
    matte : float32 array (H, W)
    foreground : uint8 array (H, W, 3)
        Straight colors of the subject.
    alpha : uint8 array (H, W), optional
        The photo's own alpha.

    Returns
    -------
    float32 or uint8 array
        Of a shape that broadcasts to (H, W, 3).
    """
    height, width = matte.shape
    if background.kind == "color":
        return np.array(background.colors[0], np.uint8)
    if background.kind == "gradient":
        start, end = (np.array(c, np.float32) for c in background.colors)
        return start + _gradient_position(height, width, background.angle)[..., None] * (end - start)
    if background.kind == "blur":
        return blurred(rgb, matte, foreground, alpha)
    if background.kind == "image" and background.image is not None:
        scaled = cover if background.fit == "cover" else contain
        return scaled(background.image, height, width, background.position)
    raise OptionError(f"A {background.kind} background cannot be painted. Choose another kind.")


def _gradient_position(height: int, width: int, angle: float) -> np.ndarray:
    """Position between the two colors, 0 to 1, both reached in corners: float32, broadcasts to (height, width)."""
    right, down = math.sin(math.radians(angle)), -math.cos(math.radians(angle))
    right, down = (0.0 if abs(part) < 1e-9 else part for part in (right, down))
    length = abs(right) * (width - 1) + abs(down) * (height - 1)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * right
    y = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) * down
    position = y if right == 0 else x[None] if down == 0 else x + y
    return np.clip(position / max(length, 1e-9) + 0.5, 0, 1).astype(np.float32)


def cover(image: np.ndarray, height: int, width: int, position: tuple[float, float] = CENTER) -> np.ndarray:
    """Scale an image to cover `height` x `width` and crop it around `position`: uint8 (height, width, 3)."""
    own_height, own_width = image.shape[:2]
    scale = max(width / own_width, height / own_height)
    right, down = max(0.0, own_width - width / scale), max(0.0, own_height - height / scale)
    left, top = right * position[0] / 100, down * position[1] / 100
    box = (left, top, own_width - right + left, own_height - down + top)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, box=box))


def contain(image: np.ndarray, height: int, width: int, position: tuple[float, float] = CENTER) -> np.ndarray:
    """Scale an image to fit into `height` x `width`, on white: uint8 (height, width, 3)."""
    own_height, own_width = image.shape[:2]
    scale = min(width / own_width, height / own_height)
    size = max(1, round(own_width * scale)), max(1, round(own_height * scale))
    left, top = round((width - size[0]) * position[0] / 100), round((height - size[1]) * position[1] / 100)
    result = np.full((height, width, 3), FLATTEN_LEVEL, np.uint8)
    scaled = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)
    result[top : top + size[1], left : left + size[0]] = np.asarray(scaled)
    return result


def blurred(
    rgb: np.ndarray, matte: np.ndarray, foreground: np.ndarray, alpha: np.ndarray | None = None, strength: float = BLUR
) -> np.ndarray:
    """Blur the photo's background: uint8 (H, W, 3).

    A Gaussian over what the subject leaves of the photo (normalized convolution, H. Knutsson and C.-F. Westin, CVPR 1993). By
    the compositing equation that is the photo minus alpha * F, so the subject's colors do not bleed into it. Colors of
    transparent pixels of the photo have no weight. Computed on a small copy, as the result has no detail.
    """
    height, width = matte.shape
    sigma = strength * max(height, width)
    step = max(1.0, sigma / 3)
    size = max(1, round(width / step)), max(1, round(height / step))
    weighted, weights = _background_light(rgb, matte, foreground, alpha)
    small = _shrink(weighted, size)
    coverage = _shrink(weights, size) / 255
    # Cells that hold an edge are left out: the matte may be a few pixels off.
    kept = coverage > MIN_COVERAGE
    small, coverage = small * kept[..., None], (coverage * kept)[..., None]
    if not kept.any():
        return np.full(rgb.shape, FLATTEN_LEVEL, np.uint8)
    near = _gaussian(coverage, sigma / step)
    near_weight = np.clip(near * 20, 0, 1)
    # Inside a large subject, where the narrow Gaussian covers no background, a wide one is used, and the mean beyond it.
    wide_sigma = max(size) / 6
    mean = small.sum((0, 1)) / coverage.sum()
    wide = (_gaussian(small, wide_sigma) + 1e-4 * mean) / (_gaussian(coverage, wide_sigma) + 1e-4)
    result = near_weight * _gaussian(small, sigma / step) / np.maximum(near, 1e-4) + (1 - near_weight) * wide
    image = Image.fromarray(np.clip(result + 0.5, 0, 255).astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _background_light(
    rgb: np.ndarray, matte: np.ndarray, foreground: np.ndarray, alpha: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Background colors multiplied by their share of each pixel, uint8 (H, W, 3), and this share, uint8 (H, W)."""
    weighted, weights = np.empty(rgb.shape, np.uint8), np.empty(matte.shape, np.uint8)
    for rows in row_strips(len(matte), 64):  # strips that fit into the CPU's cache
        subject = matte[rows]
        photo = rgb[rows].astype(np.float32)
        visible = np.ones_like(subject)
        if alpha is not None:
            visible = alpha[rows] * np.float32(1 / 255)
            photo *= visible[..., None]
        weighted[rows] = np.clip(photo - subject[..., None] * foreground[rows] + np.float32(0.5), 0, 255)
        weights[rows] = np.clip(visible - subject, 0, 1) * np.float32(255) + np.float32(0.5)
    return weighted, weights


def _shrink(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX), dtype=np.float32)


def _gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    from scipy import ndimage  # deferred, as SciPy takes long to import

    return ndimage.gaussian_filter(values, (sigma, sigma, 0), mode="nearest")
