"""Encoding of pixels as PNG, WebP, JPEG or AVIF."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, features

from rmbg.errors import OptionError, printable
from rmbg.images import png
from rmbg.images.blending import blend
from rmbg.images.color import Color


@dataclass(frozen=True)
class Format:
    """An output format: names, MIME type and capabilities."""

    id: str
    title: str
    suffix: str
    mime: str
    alpha: bool
    lossy: bool


FORMATS = {
    "png": Format("png", "PNG", ".png", "image/png", alpha=True, lossy=False),
    "webp": Format("webp", "WebP (lossless)", ".webp", "image/webp", alpha=True, lossy=False),
    "webp-lossy": Format("webp-lossy", "WebP (smaller)", ".webp", "image/webp", alpha=True, lossy=True),
    "jpeg": Format("jpeg", "JPEG (no transparency)", ".jpg", "image/jpeg", alpha=False, lossy=True),
    "avif": Format("avif", "AVIF (smallest)", ".avif", "image/avif", alpha=True, lossy=True),
}
QUALITY = 90

#: Maximum width and height of a format, in pixels.
LONGEST = {"webp": 16383, "webp-lossy": 16383, "jpeg": 65500, "avif": 32768}


def available() -> list[Format]:
    """Return the formats that the installed Pillow can encode."""
    return [f for f in FORMATS.values() if f.id != "avif" or features.check("avif")]


def format_named(name: str) -> Format:
    """Return the format with an id or file suffix, in any case, with or without a dot.

    Raises
    ------
    OptionError
        If there is no such format.
    """
    key = name.lower().lstrip(".")
    key = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg"}.get(key, key)
    if key not in {f.id for f in available()}:
        raise OptionError(
            f"There is no output format {printable(name, 60)!r}. Choose from {', '.join(f.id for f in available())}."
        )
    return FORMATS[key]


def check_quality(quality: int) -> None:
    """Raise OptionError unless `quality` is 1 to 100."""
    if not 1 <= quality <= 100:
        raise OptionError(f"The quality is {quality}; it must be between 1 and 100.")


def check_size(form: Format, width: int, height: int) -> None:
    """Raise OptionError if width or height exceeds the limit of the format."""
    if max(width, height) > LONGEST.get(form.id, 2**31):
        raise OptionError(f"{form.title} holds at most {LONGEST[form.id]} pixels a side. Choose PNG.")


def encode(
    pixels: np.ndarray, form: Format, *, quality: int = QUALITY, matte_color: Color = (255, 255, 255), quick: bool = False
) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    pixels : uint8 array (H, W), (H, W, 3) or (H, W, 4)
        A mask, a picture, or a cutout with straight alpha.
    form : Format
    quality : int
        1 to 100, for lossy formats.
    matte_color : (red, green, blue)
        Background of transparent pixels in formats without alpha.
    quick : bool
        Encode faster into more bytes, for previews.

    Returns
    -------
    bytes
        Contents of a file.

    Raises
    ------
    OptionError
        If the quality is out of range or the picture exceeds the size limit of the format.
    """
    check_quality(quality)
    check_size(form, pixels.shape[1], pixels.shape[0])
    if pixels.ndim == 3 and pixels.shape[2] == 4 and not form.alpha:
        alpha = pixels[..., 3].astype(np.float32) * np.float32(1 / 255)
        pixels = blend(pixels[..., :3], alpha, np.array(matte_color, np.uint8))
    if form.id == "png":
        return png.encode(pixels)
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    match form.id:
        case "webp":
            image.save(out, "WEBP", lossless=True, quality=40, method=2, exact=True)
        case "webp-lossy":
            image.save(out, "WEBP", quality=quality, alpha_quality=100, method=0 if quick else 4)
        case "jpeg":
            # Without optimize=True, which needs the whole file in one buffer: Pillow's is too small for noisy photos.
            image.save(out, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        case "avif":
            image.save(out, "AVIF", quality=quality, speed=8)
    return out.getvalue()
