"""Decoding of picture files and PIL images to arrays: upright, sRGB, 8 bits a channel, alpha separate."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from rmbg.errors import PhotoError, printable, reason
from rmbg.images.checks import (
    HEIF_BRANDS,
    check_directory,
    check_directory_size,
    check_end,
    check_exif,
    check_heif,
    check_jpeg,
    check_strips,
    describe_unsupported,
)
from rmbg.runtime.messages import Message, megapixels
from rmbg.settings import Settings

#: Formats that are decoded. Pillow supports forty more; some of them start other programs (EPS), the rest add attack surface.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")

#: Limit for a text chunk or color profile of a PNG, in bytes.
MAX_TEXT_CHUNK = 16 << 20


@functools.cache
def configure() -> None:
    """Set the limits and silence the warnings of Pillow that apply to every picture of the process; idempotent.

    Pillow has no per-image setting for these. They are set on the first decode, so that a program that only imports the
    package keeps its own configuration.
    """
    from PIL import PngImagePlugin  # deferred, as those in `formats`

    # Pillow rejects PNG files whose color profile or text exceeds 1 MiB. Valid CMYK profiles and editing histories do.
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MAX_TEXT_CHUNK)
    # Our own pixel limit is lower and raises an error, so the warning would only repeat it on the terminal.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # Pillow warns of invalid metadata that is not used. Damage that matters is reported once, as a PhotoError.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    # Without a handler, logging prints Pillow's errors on metadata to standard error.
    logging.getLogger("PIL").addHandler(logging.NullHandler())


@functools.cache
def formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that can be decoded here; the first call registers the decoder of HEIC photos."""
    Image.preinit()  # BMP, GIF, JPEG and PNG; `Image.init` imports forty formats, which takes longer than to decode a photo
    for name in ("Avif", "Mpo", "Tiff", "WebP"):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"PIL.{name}ImagePlugin")
    try:
        import pillow_heif

        # Thumbnails, depth maps and other auxiliary pictures are not used.
        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    except ImportError:  # its libraries cannot be loaded on this system
        logging.getLogger(__name__).warning("HEIC photos cannot be decoded: pillow-heif is not installed or does not load.")
    return tuple(name for name in FORMATS if name in Image.OPEN)


# Conversion of PIL images of any mode to 8-bit sRGB and separate alpha.


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


# Files and PIL images.


try:
    from PIL import _avif
except ImportError:  # a Pillow without AVIF
    _avif = None  # type: ignore[assignment]


#: Minimum width and height in pixels; in smaller pictures subject and background cannot be separated.
MIN_SIDE = 8

#: Limit for the CPU time of decoding one file, in seconds; 64 megapixels take at most five.
DECODE_SECONDS = 20.0

#: Transposition that makes a picture upright, by EXIF orientation (CIPA DC-008, 4.6.5.1.6); 1 is upright.
TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


#: Pixels, uint8 (H, W, 3); alpha, uint8 (H, W), None if the picture is opaque everywhere; messages to the user.
Decoded = tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]


def decode_bytes(data: bytes, label: str, settings: Settings) -> Decoded:
    """Decode the bytes of a picture file.

    Parameters
    ----------
    data : bytes
    label : str
        Name of the picture in messages.
    settings : Settings
        Limits.

    Raises
    ------
    PhotoError
        If the file is not a supported picture, damaged, truncated, or beyond the limits.
    """
    if not data:
        raise PhotoError(Message("{name} is empty. Choose another file.", name=label))
    with _photo_errors(label, settings, data), open_image(data) as image:
        _check_size(image.size, label, settings)
        if image.format == "PNG":
            # Only verify() compares the checksums of the pixel data; it leaves its image unusable for decoding.
            with Image.open(_TimedFile(data), formats=["PNG"]) as copy:
                copy.verify()
            _scale_transparent_color(image, depth=data[24])
        if image.format == "TIFF":
            check_strips(image, len(data))
        multiple = getattr(image, "is_animated", False) and image.format != "MPO"  # the other pictures of an MPO are previews
        return _decode(image, ("Only the first picture of an animation or a series was used.",) if multiple else ())


@contextlib.contextmanager
def open_image(data: bytes) -> Iterator[Image.Image]:
    """Open the bytes of a picture file with Pillow; its pixels are not decoded yet.

    Raises
    ------
    Exception
        Of nearly any type, as raised by Pillow: the file is damaged, truncated, or exceeds the limits for time or memory.
    """
    configure()
    check_jpeg(data)
    check_directory_size(data)
    if data[4:8] == b"ftyp":
        check_directory_size(_avif_exif(data))
        if data[8:12] in HEIF_BRANDS:
            check_heif(data)
    check_directory(data)
    check_end(data)
    # Pillow reads a compressed BMP byte by byte, which takes seconds at most; a file object in Python would be slower.
    file = io.BytesIO(data) if data.startswith(b"BM") else _TimedFile(data)
    with Image.open(file, formats=formats()) as image:
        yield image


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a picture, 1 to 8; 1 (upright) if its EXIF data is invalid."""
    try:
        check_exif(image.info)
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow's EXIF readers raise nearly any type on invalid data, which is not used otherwise
        return 1
    return value if value in TRANSPOSITIONS else 1


class _TimedFile(io.BytesIO):
    """File in memory that raises PhotoError when it is read after `DECODE_SECONDS` of CPU time.

    Pillow reads headers chunk by chunk and most pixels block by block, so the check covers nearly all decoders.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._deadline = time.thread_time() + DECODE_SECONDS
        self._reads = 0

    def read(self, size: int | None = -1) -> bytes:
        self._reads += 1  # Headers are read byte by byte; reading the clock each time would dominate.
        if (self._reads % 256 == 0 or size is None or size > 4096) and time.thread_time() > self._deadline:
            raise PhotoError("The picture takes too long to decode. Save it as a plain JPEG or PNG and try again.")
        return super().read(size)


def _avif_exif(data: bytes) -> bytes:
    """Return the EXIF data of an AVIF file, which Pillow parses when it opens the file."""
    try:
        return _avif.AvifDecoder(data, "auto", 1).get_info()[4] or b""
    except Exception:  # a damaged file, which is reported when Pillow opens it
        return b""


def decode_image(image: Image.Image, label: str, settings: Settings) -> Decoded:
    """Decode a PIL image, which may be open and not loaded yet; it is not modified.

    Raises
    ------
    PhotoError
        As for `decode_bytes`.
    """
    configure()
    with _photo_errors(label, settings):
        _check_size(image.size, label, settings)
        return _decode(image)


@contextlib.contextmanager
def _photo_errors(label: str, settings: Settings, data: bytes = b"") -> Iterator[None]:
    """Convert every exception of the block to a PhotoError with one sentence for the user."""
    if Image.MAX_IMAGE_PIXELS is not None:  # raised, as Pillow would reject what RMBG_MAX_PIXELS permits
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, settings.max_pixels)
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise PhotoError(_too_many_pixels(label, settings)) from None
    except UnidentifiedImageError:
        raise PhotoError(describe_unsupported(data, label, heif="HEIF" in formats())) from None
    except MemoryError:
        raise PhotoError(Message("There is not enough memory to decode {name}. Resize it and try again.", name=label)) from None
    except Exception as error:  # Pillow's decoders raise nearly any type on damaged files
        message = Message("{name} is damaged or cut off and cannot be decoded ({reason}).", name=label, reason=reason(error))
        raise PhotoError(message) from None


def _check_size(size: tuple[int, int], label: str, settings: Settings) -> None:
    width, height = size
    if width * height > settings.max_pixels:
        raise PhotoError(_too_many_pixels(label, settings, size))
    if min(width, height) < MIN_SIDE:
        text = "{name} is {width} x {height} pixels, which is too small. Each side must have at least {least} pixels."
        raise PhotoError(Message(text, name=label, width=width, height=height, least=MIN_SIDE))


def _too_many_pixels(label: str, settings: Settings, size: tuple[int, int] | None = None) -> str:
    values: dict[str, Any] = {"name": label, "limit": megapixels(settings.max_pixels)}
    text = "{name} has more pixels than the limit of {limit}. Resize it and try again."
    if size is not None:
        values |= {"width": size[0], "height": size[1], "has": megapixels(size[0] * size[1])}
        text = "{name} has {width} x {height} pixels ({has}), more than the limit of {limit}. Resize it and try again."
    return Message(text, owner=" RMBG_MAX_PIXELS sets the limit.", **values)


def _decode(image: Image.Image, notes: tuple[str, ...] = ()) -> Decoded:
    """Convert an open PIL image to arrays; large pictures are copied only in steps that change them."""
    image.load()
    profile = image.info.get("icc_profile")
    method = TRANSPOSITIONS.get(orientation(image))
    image, alpha = split_alpha(image if method is None else image.transpose(method))
    image, profile_name = to_srgb(to_eight_bits(image), profile)
    if profile_name:
        notes += (Message("Colors were converted to sRGB from {profile}.", profile=profile_name),)
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return to_array(image), alpha, notes


def _scale_transparent_color(image: Image.Image, depth: int) -> None:
    """Scale the transparent color of a PNG from the bit depth of the file to the 8 bits of Pillow's pixels."""
    key = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(key, int) and depth < 8 and key < 1 << depth:
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)
