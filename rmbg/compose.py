"""Backgrounds and crop: a cutout becomes a picture, without asking the provider again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageColor
from scipy import ndimage

from rmbg.cutout import Cutout
from rmbg.errors import OptionError, PhotoError, printable
from rmbg.matte import resize, subject_box, to_bytes
from rmbg.photo import open_photo
from rmbg.settings import Settings

Colour = tuple[int, int, int]
View = Literal["cutout", "mask", "original"]

#: Standard deviation of the blurred background, as a share of the photo's longer side.
BLUR = 0.02


@dataclass(frozen=True, eq=False)
class Background:
    """What stands behind the subject.

    Attributes
    ----------
    kind : str
        ``transparent``, ``colour``, ``gradient``, ``blur`` or ``image``.
    colours : tuple of (red, green, blue)
        One for a colour, two for a gradient from top to bottom; 0 to 255 each.
    image : uint8 array (h, w, 3) or None
        Of any size: it is scaled to cover the photo and cut in the middle.
    """

    kind: Literal["transparent", "colour", "gradient", "blur", "image"] = "transparent"
    colours: tuple[Colour, ...] = ()
    image: np.ndarray | None = None


TRANSPARENT = Background()
BLURRED = Background("blur")


def colour(text: str) -> Colour:
    """Red, green and blue, 0 to 255, of a colour as people and colour pickers write it.

    ``#RGB``, ``#RRGGBB``, a name of CSS, ``rgb(...)``, ``rgba(...)`` and ``hsl(...)`` with fractions; an alpha is ignored.

    Raises
    ------
    OptionError
        If it is no colour.
    """
    given = str(text).strip()
    numbers = re.fullmatch(r"rgba?\(\s*([\d.]+)\s*[, ]\s*([\d.]+)\s*[, ]\s*([\d.]+)\s*([,/].*)?\)", given, re.IGNORECASE)
    try:
        if numbers:
            red, green, blue = (min(255, round(float(numbers[i]))) for i in (1, 2, 3))
            return red, green, blue
        parts = ImageColor.getrgb(re.sub(r"^hsla(\(.*),[^,]*\)$", r"hsl\1)", given))
        red, green, blue = (min(255, max(0, part)) for part in parts[:3])  # 120% of red is red
        return red, green, blue
    except ValueError:
        raise OptionError(f"{printable(given, 60)!r} is not a colour; write it like #ff8800 or orange.") from None


def parse_background(text: str, *, paths: bool = True, settings: Settings | None = None) -> Background:
    """A background as the command line and the API write it.

    ``transparent``, a colour, ``blur``, ``gradient:#TOP,#BOTTOM`` or, unless `paths` is False, the path of a picture.

    Raises
    ------
    OptionError
        If it is none of these.
    """
    given = text.strip()
    if given.lower() in ("", "transparent", "none"):
        return TRANSPARENT
    if given.lower() == "blur":
        return BLURRED
    if given.lower().startswith("gradient:"):
        return gradient(*_two(given))
    try:
        return Background("colour", (colour(given),))
    except OptionError:
        pass
    if not paths or given.startswith("#") or not re.search(r"[./\\]", given):
        kinds = "transparent, a colour such as #ff8800, blur or gradient:#ffffff,#cccccc"
        kinds += ", or the path of a picture" if paths else ""
        raise OptionError(f"{printable(given, 60)!r} is no background; give {kinds}.")
    return picture(given, settings=settings)


def _two(given: str) -> tuple[str, str]:
    parts = [p for p in re.split(r",(?![^(]*\))", given.partition(":")[2]) if p.strip()]
    if len(parts) != 2:
        raise OptionError("A gradient needs two colours: gradient:#ffffff,#cccccc.")
    return parts[0], parts[1]


def gradient(top: str, bottom: str) -> Background:
    """A background that goes from one colour at the top to another at the bottom."""
    return Background("gradient", (colour(top), colour(bottom)))


def picture(source: Any, *, settings: Settings | None = None) -> Background:
    """Another picture as background: anything that the door can read."""
    try:
        return Background("image", image=open_photo(source, settings=settings).flattened())
    except PhotoError as error:
        raise OptionError(f"The background cannot be used: {error}") from None


def compose(foreground: np.ndarray, matte: np.ndarray, background: Background, rgb: np.ndarray) -> np.ndarray:
    """The subject on its new background.

    Parameters
    ----------
    foreground : uint8 array (H, W, 3)
        Straight colours of the subject.
    matte : float32 array (H, W)
        Alpha in [0, 1].
    background : Background
    rgb : uint8 array (H, W, 3)
        The photo, which a blurred background is made of.

    Returns
    -------
    uint8 array (H, W, 4) for a transparent background, (H, W, 3) for all others
        Blended in sRGB bytes, exact to half a level.
    """
    if background.kind == "transparent":
        return cut_out(foreground, to_bytes(matte))
    behind = paint(background, rgb, matte)
    return blend(foreground, matte, behind)


def cut_out(foreground: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours and uint8 alpha as uint8 (H, W, 4); black where alpha is 0: what was removed must not be recoverable."""
    result = np.empty((*alpha.shape, 4), np.uint8)
    pixels = result.view(np.uint32)[..., 0]
    for top in range(0, alpha.shape[0], 64):  # in strips that stay in the processor's caches
        rows = slice(top, top + 64)
        result[rows, :, :3] = foreground[rows]
        result[rows, :, 3] = alpha[rows]
        pixels[rows] *= alpha[rows] != 0
    return result


def blend(foreground: np.ndarray, matte: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """alpha * F + (1 - alpha) * B as uint8 (H, W, 3), rounded once; `behind` may be (H, W, 3), (H, 1, 3) or (3,)."""
    behind = np.broadcast_to(behind, foreground.shape)
    result = np.empty(foreground.shape, np.uint8)
    for top in range(0, matte.shape[0], 256):  # in strips: the float copies stay small
        rows = slice(top, top + 256)
        alpha = matte[rows, :, None]
        under = behind[rows].astype(np.float32)
        result[rows] = under + alpha * (foreground[rows] - under) + np.float32(0.5)
    return result


def paint(background: Background, rgb: np.ndarray, matte: np.ndarray) -> np.ndarray:
    """The background alone, at the photo's size: float32 or uint8, of a shape that broadcasts to (H, W, 3)."""
    height, width = matte.shape
    if background.kind == "colour":
        return np.array(background.colours[0], np.uint8)
    if background.kind == "gradient":
        top, bottom = (np.array(c, np.float32) for c in background.colours)
        share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        return top + share * (bottom - top)
    if background.kind == "blur":
        return blurred(rgb, matte)
    if background.kind == "image" and background.image is not None:
        return cover(background.image, height, width)
    raise OptionError(f"There is nothing to paint for a {background.kind} background.")


def cover(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`image` scaled until it covers `height` x `width`, its middle cut out: uint8 (height, width, 3)."""
    own_height, own_width = image.shape[:2]
    scale = max(width / own_width, height / own_height)
    left, top = (own_width - width / scale) / 2, (own_height - height / scale) / 2
    box = (left, top, own_width - left, own_height - top)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, box=box))


def blurred(rgb: np.ndarray, matte: np.ndarray, strength: float = BLUR) -> np.ndarray:
    """The photo's own background out of focus: uint8 (H, W, 3).

    A Gaussian over background pixels only (normalised convolution, H. Knutsson and C.-F. Westin, CVPR 1993), so that the
    subject leaves no coloured shadow around itself. Computed on a small copy, as nothing fine is left in it.
    """
    height, width = matte.shape
    sigma = strength * max(height, width)
    step = max(1.0, sigma / 3)
    size = max(1, round(width / step)), max(1, round(height / step))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX), dtype=np.float32)
    share = 1 - resize(matte, size[1], size[0])
    share = np.where(share > 0.9, share, 0)[..., None]
    near = _spread(small * share, sigma / step) / np.maximum(_spread(share, sigma / step), 1e-4)
    # Deep inside a large subject no background is near: a wide Gaussian fills in, and at last the mean.
    wide = _spread(share, sigma / step)
    far_sigma = max(size) / 6
    far = _spread(small * share, far_sigma) / np.maximum(_spread(share, far_sigma), 1e-4)
    known = np.clip(wide * 20, 0, 1)
    result = known * near + (1 - known) * far
    image = Image.fromarray(np.clip(result + 0.5, 0, 255).astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _spread(values: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(values, (sigma, sigma, 0), mode="nearest")


def render(
    cutout: Cutout, background: Background = TRANSPARENT, *, view: View = "cutout", crop: float | None = None
) -> np.ndarray:
    """What a user sees or saves of a cutout.

    Parameters
    ----------
    cutout : Cutout
    background : Background
        Behind the subject, for the view ``cutout``.
    view : str
        ``cutout``, ``mask`` (white where the subject is) or ``original``.
    crop : float, optional
        Crop to the subject with this share of its longer side as margin; by default nothing is cropped.

    Returns
    -------
    uint8 array
        (H, W, 4) for a cut-out on transparent background, (H, W) for a mask, (H, W, 3) for all others.
    """
    if view == "mask":
        pixels = to_bytes(cutout.matte)
    elif view == "original":
        pixels = cutout.photo.rgb
    else:
        pixels = compose(cutout.foreground, cutout.matte, background, cutout.photo.rgb)
    return pixels if crop is None else pixels[subject_box(cutout.matte, margin=crop)]
