"""Pixels from the bytes of a picture file, or from a PIL image: upright, sRGB, 8 bits a channel, alpha apart.

Limits are checked on the header, before any pixel is decoded, and a file that breaks off is refused as a whole: half a
picture is never passed on.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from rmbg.damage import check_directory, check_end, check_strips, what_it_is
from rmbg.errors import PhotoError, printable, reason
from rmbg.settings import Settings

# What is wrong with a file is said once, in the error. The limits are our own and lower, and Pillow's remarks on metadata
# that nobody needs would only add lines to the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# The profile of a press, or what an editor remembers of its work, is a good PNG's right; Pillow refuses more than 1 MiB.
PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, 16 << 20)

#: What the door lets in. Pillow knows forty more, some of which start other programs (EPS) or are mere attack surface.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")

#: A subject cannot be told from its background in fewer pixels than this a side.
MIN_SIDE = 8

#: Rows that become an array at a time.
ROWS = 256

#: A profile of this name may differ from sRGB by so many levels: curves are drawn a little differently, or as a plain power.
SRGB_SLACK = 8

#: What makes a picture upright, by its EXIF orientation (CIPA DC-008, 4.6.5.1.6); 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """uint8 (H, W, 3); uint8 (H, W), or None if it is opaque everywhere; what was done that the user may want to know."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    notes: tuple[str, ...]


def decode_bytes(data: bytes, label: str, settings: Settings) -> Decoded:
    """The picture in the bytes of a file; `label` names it in what is said of it."""
    if not data:
        raise PhotoError(f"{label} is empty: it has no bytes.")
    with _one_sentence(label, settings, data):
        check_directory(data)
        check_end(data)
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            _check_size(image.size, label, settings)
            if image.format == "PNG":
                # Decoding does not look at the checksums of the pixel data; only verify() does.
                with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
                    again.verify()
                _scale_key(image, depth=data[24])
            if image.format == "TIFF":
                check_strips(image, len(data))
            series = getattr(image, "is_animated", False) and image.format != "MPO"  # an MPO's other pictures are previews
            return _decode(image, ("Only the first picture of an animation or a series was used.",) if series else ())


def decode_image(image: Image.Image, label: str, settings: Settings) -> Decoded:
    """What a PIL image shows; it may be one that was opened and not decoded yet. It stays as it is."""
    with _one_sentence(label, settings):
        _check_size(image.size, label, settings)
        return _decode(image)


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that can be read here; HEIC comes from phones and is read where pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextlib.contextmanager
def _one_sentence(label: str, settings: Settings, data: bytes = b"") -> Iterator[None]:
    """Whatever Pillow raises inside becomes a PhotoError."""
    if Image.MAX_IMAGE_PIXELS is not None and settings.max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = settings.max_pixels  # the owner wants more than Pillow would let through
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError(_too_many_pixels(label, settings)) from None
    except UnidentifiedImageError:
        raise PhotoError(what_it_is(data, label, heif="HEIF" in formats())) from None
    except MemoryError:
        raise PhotoError(f"{label} needs more memory than there is; make it smaller.") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on broken files
        raise PhotoError(f"{label} is damaged or cut off and cannot be read ({reason(error)}).") from None


def _check_size(size: tuple[int, int], label: str, settings: Settings) -> None:
    width, height = size
    if width * height > settings.max_pixels:
        raise PhotoError(_too_many_pixels(label, settings, size))
    if min(width, height) < MIN_SIDE:
        raise PhotoError(
            f"{label} is {width} x {height} pixels, too small to cut anything out; each side needs at least {MIN_SIDE}."
        )


def _too_many_pixels(label: str, settings: Settings, size: tuple[int, int] | None = None) -> str:
    has = f"has {size[0]} x {size[1]} pixels ({size[0] * size[1] / 1e6:.1f} million)" if size else "has too many pixels"
    return (
        f"{label} {has}, more than the limit of {settings.max_pixels / 1e6:g} million; make it smaller or raise "
        "RMBG_MAX_PIXELS."
    )


def _decode(image: Image.Image, notes: tuple[str, ...] = ()) -> Decoded:
    """All that happens between an open PIL image and arrays; a big picture is copied only where it changes."""
    image.load()
    profile = image.info.get("icc_profile")
    image, alpha = _split(_upright(image))
    image, converted = _to_srgb(_eight_bits(image), profile)
    if converted:
        notes += (f"Colours were converted to sRGB from {converted}.",)
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Decoded(_array(image), alpha, notes)


def _array(image: Image.Image) -> np.ndarray:
    """The pixels of an RGB image: uint8 (H, W, 3). Some rows at a time, as each goes through several buffers."""
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, ROWS):
        rows = rgb[top : top + ROWS]
        rows[:] = np.asarray(image.crop((0, top, image.width, top + len(rows))))
    return rgb


def _scale_key(image: Image.Image, depth: int) -> None:
    """Bring a PNG's transparent colour, which has the depth of the file, to the 8 bits that Pillow's pixels have."""
    key = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(key, int) and depth < 8 and key < 1 << depth:
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as its EXIF orientation says; a photo whose EXIF is broken stays as it is."""
    try:
        turn = TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # any of Pillow's EXIF readers, on metadata that nobody needs
        turn = None
    return image if turn is None else image.transpose(turn)


def _split(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Colours and transparency apart: a picture without alpha, and its alpha as uint8 (H, W) or None."""
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), np.asarray(image.getchannel("A"))
    key = image.info.get("transparency") if image.mode in ("I", "F") or image.mode.startswith("I;16") else None
    if key is not None:
        return image, np.where(np.asarray(image) == key, np.uint8(0), np.uint8(255))
    if image.has_transparency_data:  # a palette's own alpha, or one of its colours
        image = image.convert("RGBA")
        return image.convert("RGB"), np.asarray(image.getchannel("A"))
    return image, None


def _eight_bits(image: Image.Image) -> Image.Image:
    """`image` in a mode with 8 bits a channel that has a colour meaning: L, RGB, CMYK or LAB."""
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        values = np.minimum(np.asarray(image), 65535 - 128)  # or half a level more would leave the 16 bits
        return Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image)))
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Grey values of unknown range as uint8: [0, 1], [0, 255] and [0, 65535] are recognised, others spread from end to end.

    A sharpened picture in floats overshoots its range a little; that is cut off. What is no number is black.
    """
    slack = 0.1 if values.dtype.kind == "f" else 0.0
    values = np.where(np.isfinite(values), values, 0).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    top = next((top for top in (1.0, 255.0, 65535.0) if high <= top + slack * top and low >= -slack * top), None)
    if top is None:
        values, top = values * 0.5 - low * 0.5, high * 0.5 - low * 0.5  # halves: the difference may be beyond float32
    return np.rint(np.clip(values / np.float32(top), 0, 1) * 255).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """`image` as sRGB, and the name of the profile that it was converted from (None if there was nothing to do)."""
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
            pass  # a broken profile, or one for another mode: the plain conversion is the best that can be had
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        result = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB")
        return (result or image.convert("RGB")), None
    return (image if image.mode == "RGB" else image.convert("RGB")), None


def _is_srgb(source: ImageCms.ImageCmsProfile) -> bool:
    """Whether a profile changes next to nothing: linear and wider spaces also have sRGB in their names."""
    levels = np.arange(0, 256, 51, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3)
    target, intent = ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC
    result = ImageCms.profileToProfile(Image.fromarray(colours), source, target, intent, outputMode="RGB")
    return bool(np.abs(np.asarray(result).astype(int) - colours).max() <= SRGB_SLACK)
