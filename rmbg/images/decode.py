"""Decoding of image files and PIL images: upright, sRGB, 8 bits a channel, alpha separate.

Limits are checked on the header, before any pixel is decoded. A truncated file is rejected as a whole; a partial picture is
never returned.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

try:
    from PIL import _avif
except ImportError:  # a Pillow without AVIF
    _avif = None  # type: ignore[assignment]

from rmbg.errors import PhotoError, reason
from rmbg.images import pillow
from rmbg.images.bombs import check_directory_size, check_exif, check_jpeg
from rmbg.images.heif import check_heif
from rmbg.images.integrity import HEIF_BRANDS, check_directory, check_end, check_strips, describe_unsupported
from rmbg.images.modes import split_alpha, to_array, to_eight_bits, to_srgb
from rmbg.images.pillow import formats
from rmbg.message import Message
from rmbg.settings import Settings
from rmbg.units import megapixels

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


class Decoded(NamedTuple):
    """Decoded pixels.

    Attributes
    ----------
    rgb : uint8 array (H, W, 3)
    alpha : uint8 array (H, W) or None
        None if the picture is opaque everywhere.
    notes : tuple of str
        Messages to the user about the decoding.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    notes: tuple[str, ...]


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
    pillow.configure()
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
    pillow.configure()
    with _photo_errors(label, settings):
        _check_size(image.size, label, settings)
        return _decode(image)


@contextlib.contextmanager
def _photo_errors(label: str, settings: Settings, data: bytes = b"") -> Iterator[None]:
    """Convert every exception of the block to a PhotoError with one sentence for the user."""
    pillow.raise_pixel_limit(settings.max_pixels)
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
        raise PhotoError(
            Message(
                "{name} is {width} x {height} pixels, which is too small. Each side must have at least {least} pixels.",
                name=label,
                width=width,
                height=height,
                least=MIN_SIDE,
            )
        )


#: End of the message on the limit, for the owner of the server.
_LIMIT = " RMBG_MAX_PIXELS sets the limit."


def _too_many_pixels(label: str, settings: Settings, size: tuple[int, int] | None = None) -> str:
    values = {"name": label, "limit": megapixels(settings.max_pixels)}
    if size is None:
        return Message(
            "{name} has more pixels than the limit of {limit}. Resize it and try again.",
            owner=_LIMIT,
            **values,
        )
    return Message(
        "{name} has {width} x {height} pixels ({has}), more than the limit of {limit}. Resize it and try again.",
        owner=_LIMIT,
        width=size[0],
        height=size[1],
        has=megapixels(size[0] * size[1]),
        **values,
    )


def _decode(image: Image.Image, notes: tuple[str, ...] = ()) -> Decoded:
    """Convert an open PIL image to arrays; large pictures are copied only in steps that change them."""
    image.load()
    profile = image.info.get("icc_profile")
    image, alpha = split_alpha(_upright(image))
    image, profile_name = to_srgb(to_eight_bits(image), profile)
    if profile_name:
        notes += (Message("Colors were converted to sRGB from {profile}.", profile=profile_name),)
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Decoded(to_array(image), alpha, notes)


def _scale_transparent_color(image: Image.Image, depth: int) -> None:
    """Scale the transparent color of a PNG from the bit depth of the file to the 8 bits of Pillow's pixels."""
    key = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(key, int) and depth < 8 and key < 1 << depth:
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; without effect if the EXIF data is invalid."""
    method = TRANSPOSITIONS.get(orientation(image))
    return image if method is None else image.transpose(method)
