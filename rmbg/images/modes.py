"""Conversion of PIL images of any mode to 8-bit sRGB and separate alpha."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from rmbg.errors import printable

#: Rows that are converted to an array at a time.
STRIP_ROWS = 256

#: Largest difference from sRGB, in levels, of a profile that counts as sRGB. Vendors approximate the curve differently, some by
#: a plain power function.
SRGB_TOLERANCE = 8


def split_alpha(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Return the picture without alpha, and its alpha as uint8 (H, W), None if it has none."""
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), np.asarray(image.getchannel("A"))
    key = image.info.get("transparency") if image.mode in ("I", "F") or image.mode.startswith("I;16") else None
    if key is not None:
        return image, np.where(np.asarray(image) == key, np.uint8(0), np.uint8(255))
    if image.has_transparency_data:  # alpha of a palette, or a transparent color
        image = image.convert("RGBA")
        return image.convert("RGB"), np.asarray(image.getchannel("A"))
    return image, None


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert a picture to a mode with 8 bits a channel that ImageCms supports: L, RGB, CMYK or LAB."""
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        values = np.minimum(np.asarray(image), 65535 - 128)  # so that rounding does not overflow
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image)))
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Convert gray values of unknown range to uint8.

    The ranges [0, 1], [0, 255] and [0, 65535] are recognized; other values are stretched from minimum to maximum. Floats may
    exceed a range by a tenth, as after sharpening, and are clipped. NaN and infinity become black.
    """
    tolerance = 0.1 if values.dtype.kind == "f" else 0.0
    values = np.where(np.isfinite(values), values, 0).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    top = next((top for top in (1.0, 255.0, 65535.0) if high <= top + tolerance * top and low >= -tolerance * top), None)
    if top is None:
        values, top = values * 0.5 - low * 0.5, high * 0.5 - low * 0.5  # halved, as the difference may overflow float32
    return np.rint(np.clip(values / np.float32(top), 0, 1) * 255).astype(np.uint8)


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """Convert a picture to sRGB.

    Returns
    -------
    image : PIL image of mode RGB
    name : str or None
        Name of the embedded profile; None if the colors were not converted by a profile.
    """
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = printable(ImageCms.getProfileDescription(source), 60)
            if image.mode == "RGB" and "srgb" in name.lower().replace(" ", "") and _is_srgb(source):
                return image, None
            result = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if result is not None:
                return result, name or "the embedded profile"
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass  # an invalid profile, or one for another mode: fall back to conversion without a profile
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        result = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return (result or image.convert("RGB")), None
    return (image if image.mode == "RGB" else image.convert("RGB")), None


def _is_srgb(source: ImageCms.ImageCmsProfile) -> bool:
    """True if a profile is sRGB within `SRGB_TOLERANCE`. Names of other color spaces may contain sRGB too."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colors = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3)
    target, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    result = ImageCms.profileToProfile(Image.fromarray(colors), source, target, intent, outputMode="RGB")
    return bool(np.abs(np.asarray(result).astype(int) - colors).max() <= SRGB_TOLERANCE)


def to_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of an RGB image, uint8 (H, W, 3)."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, STRIP_ROWS):  # strips, as Pillow allocates several buffers for each conversion
        rows = rgb[top : top + STRIP_ROWS]
        rows[:] = np.asarray(image.crop((0, top, image.width, top + len(rows))))
    return rgb
