"""The door: any bytes, path, file, data URI or PIL image becomes a photo, or one clear error.

What comes out is upright, sRGB, 8 bits a channel. Limits are checked on the header, before any pixel is decoded, and a
file that breaks off is refused as a whole: half a picture is never passed on.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import io
import logging
import os
import re
import struct
import urllib.parse
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from rmbg.errors import PhotoError, printable
from rmbg.settings import Settings

# What is wrong with a file is said once, in the error. The limits are our own and lower, and Pillow's remarks on metadata
# that nobody needs would only add lines to the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

#: What the door lets in. Pillow knows forty more, some of which start other programs (EPS) or are mere attack surface.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

#: A subject cannot be told from its background in fewer pixels than this a side.
MIN_SIDE = 8

#: Tags of a TIFF that its pixels cannot do without (bits, places and lengths of strips and tiles, palette, JPEG tables), and
#: the sizes of the types of numbers that are not one byte.
TIFF_NEEDED = (258, 273, 279, 320, 324, 325, 347)
TIFF_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

#: The transparent parts of a photo are shown to networks over this grey level.
FLATTEN_ON = 255


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded input.

    Attributes
    ----------
    rgb : uint8 array (H, W, 3)
        Upright, sRGB; under transparent pixels whatever the file holds there.
    alpha : uint8 array (H, W) or None
        The photo's own alpha; None if it is opaque everywhere.
    name : str
        The stem of the file's name, for the names of downloads.
    notes : tuple of str
        What the door did that the user may want to know.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    name: str = "photo"
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        return self.rgb.shape[0]

    def flattened(self) -> np.ndarray:
        """The photo as a network should see it: uint8 (H, W, 3), its transparent parts white."""
        if self.alpha is None:
            return self.rgb
        alpha = self.alpha[..., None].astype(np.uint16)
        mixed = self.rgb * alpha  # at most 255 * 255 with the rest, so 16 bits hold it
        mixed += FLATTEN_ON * (255 - alpha) + np.uint16(127)
        mixed //= 255
        return mixed.astype(np.uint8)


def open_photo(source: Any, *, name: str | None = None, settings: Settings | None = None) -> Photo:
    """Read a picture from wherever it is.

    Parameters
    ----------
    source : bytes-like, path, binary file object, PIL image, data URI or Photo
        A string that begins with ``data:`` is a data URI, any other string a path.
    name : str, optional
        The file's name, where `source` does not know it.
    settings : Settings, optional
        Limits; by default those of the environment.

    Returns
    -------
    Photo

    Raises
    ------
    PhotoError
        Not a picture, not one of the supported formats, damaged, cut off, or beyond the limits.
    """
    settings = settings or Settings.from_environ()
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image.Image):
        name = name or _file_name(getattr(source, "filename", None))
        photo = _open_image(source, _label(name), settings)
    else:
        data, name = _read(source, name, settings)
        photo = _open_bytes(data, _label(name), settings)
    return replace(photo, name=stem(name))


def stem(name: str) -> str:
    """The stem of a file's name, without folders of either kind of system and without control characters."""
    base = PureWindowsPath(PurePosixPath(name).name).stem
    text = "".join(c for c in base if c.isprintable()).strip(" .")
    return text[:120] or "photo"


def _label(name: str) -> str:
    """A file's name as it may stand in a sentence: without folders, on one line and not too long."""
    base = PureWindowsPath(PurePosixPath(name).name).name or name
    return printable(base, 60) or "photo"


def _file_name(given: Any) -> str:
    """The name that an open file or picture knows itself by; some know a number or nothing."""
    return Path(os.fsdecode(given)).name or "photo" if isinstance(given, (str, bytes, os.PathLike)) else "photo"


def _read(source: Any, name: str | None, settings: Settings) -> tuple[bytes, str]:
    """The bytes of `source`, at most the limit of them, and its name."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        count = source.nbytes if isinstance(source, memoryview) else len(source)
        _check_bytes(count, _label(name or "The picture"), settings)
        return bytes(source), name or "photo"
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _read_data_uri(source, settings), name or "photo"
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        name = name or path.name or str(path)
        return _read_path(path, _label(name), settings), name
    if hasattr(source, "read"):
        name = name or _file_name(getattr(source, "name", None))
        return _read_file(source, _label(name), settings), name
    raise PhotoError(f"A picture cannot be read from a {type(source).__name__}; give bytes, a path, a file or a PIL image.")


def _read_path(path: Path, label: str, settings: Settings) -> bytes:
    try:
        if path.is_dir():
            raise PhotoError(f"{label} is a folder; give a picture file.")
        _check_bytes(path.stat().st_size, label, settings)
        with open(path, "rb") as file:
            return _read_file(file, label, settings)
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"There is no file {printable(str(path), 120)!r}.") from None
    except (OSError, ValueError) as error:
        raise PhotoError(f"{label} could not be read: {_reason(error)}.") from None


def _read_file(file: IO[bytes], label: str, settings: Settings) -> bytes:
    """All bytes of an open file, in as many pieces as it gives them; one more than the limit at most."""
    data, left = bytearray(), settings.max_bytes + 1
    try:
        while left > 0 and (piece := file.read(left)):
            if isinstance(piece, str):
                raise PhotoError(f"{label} was opened as text; open it in binary mode ('rb').")
            data += piece
            left -= len(piece)
    except PhotoError:
        raise
    except UnicodeDecodeError:
        raise PhotoError(f"{label} was opened as text; open it in binary mode ('rb').") from None
    except (OSError, ValueError, TypeError) as error:
        raise PhotoError(f"{label} could not be read: {_reason(error)}.") from None
    _check_bytes(len(data), label, settings)
    return bytes(data)


def _read_data_uri(uri: str, settings: Settings) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise PhotoError("The data URI has no data: it must look like data:image/png;base64,...")
    _check_bytes(len(body) // 3, "The data URI", settings)  # before it is decoded: every byte takes three characters at most
    try:
        if re.search(r";\s*base64\s*$", head, re.IGNORECASE):
            data = base64.b64decode(re.sub(r"\s+", "", urllib.parse.unquote(body)), validate=True)
        else:
            data = urllib.parse.unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise PhotoError("The data URI is damaged: what it holds cannot be decoded.") from None
    _check_bytes(len(data), "The data URI", settings)
    return data


def _check_bytes(count: int, label: str, settings: Settings) -> None:
    if count > settings.max_bytes:
        raise PhotoError(
            f"{label} has {count / 1e6:.1f} MB, more than the limit of {settings.max_bytes / 1e6:g} MB; make it smaller "
            "or raise RMBG_MAX_BYTES."
        )


def _open_bytes(data: bytes, label: str, settings: Settings) -> Photo:
    if not data:
        raise PhotoError(f"{label} is empty: it has no bytes.")
    with _one_sentence(label, settings, data):
        _check_directory(data)
        _check_end(data)
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_size(image.size, label, settings)
            if image.format == "PNG":
                # Decoding does not look at the checksums of the pixel data; only verify() does.
                with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
                    again.verify()
                _scale_key(image, depth=data[24])
            if image.format == "TIFF":
                _check_strips(image, len(data))
            return _decode(image, label, settings)


def _open_image(image: Image.Image, label: str, settings: Settings) -> Photo:
    """A PIL image as a photo; it may be one that was opened and not decoded yet."""
    with _one_sentence(label, settings):
        _check_size(image.size, label, settings)
        return _decode(image.copy(), label, settings)


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
        raise PhotoError(_what_it_is(data, label)) from None
    except MemoryError:
        raise PhotoError(f"{label} needs more memory than there is; make it smaller.") from None
    except Exception as error:  # Pillow's decoders raise nearly everything on broken files
        raise PhotoError(f"{label} is damaged or cut off and cannot be read ({_reason(error)}).") from None


def _decode(image: Image.Image, label: str, settings: Settings) -> Photo:
    """All that happens between an open PIL image and a photo."""
    _check_size(image.size, label, settings)
    notes = []
    if getattr(image, "is_animated", False) and image.format != "MPO":  # an MPO's other pictures are previews
        notes.append("Only the first picture of an animation or a series was used.")
    image.load()
    profile = image.info.get("icc_profile")
    image, alpha = _split(_upright(image))
    image = _eight_bits(image)
    image, converted = _to_srgb(image, profile)
    if converted:
        notes.append(f"Colours were converted to sRGB from {converted}.")
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Photo(np.array(image), alpha, notes=tuple(notes))


def _check_directory(data: bytes) -> None:
    """Refuse a TIFF whose directory, or what its pixels cannot do without, is cut off: libtiff would print it."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return
    order = "<" if data[:1] == b"I" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(count):
            tag, kind, number, place = struct.unpack_from(f"{order}HHII", data, start + 2 + 12 * entry)
            size = number * TIFF_SIZES.get(kind, 1)
            if tag in TIFF_NEEDED and size > 4 and place + size > len(data):
                raise UnidentifiedImageError
    except struct.error:
        raise UnidentifiedImageError from None


def _check_end(data: bytes) -> None:
    """Refuse a JPEG without its end marker, such as a download that was never filled: libjpeg makes grey of what is missing."""
    at = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data[at + 1] == 0xDA:  # the pixels begin; a preview's own markers lie inside the segments before
            if data.find(b"\xff\xd9", at) < 0:
                raise OSError("the end is missing")
            return
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def _check_strips(image: Image.Image, size: int) -> None:
    """Refuse a TIFF of JPEG strips that ends before they do: they too would become grey."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if image.info.get("compression") == "jpeg":
        for offsets, counts in ((273, 279), (324, 325)):
            places = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
            if any(offset + count > size for offset, count in places):
                raise OSError("the end is missing")


def _scale_key(image: Image.Image, depth: int) -> None:
    """Bring a PNG's transparent colour, which has the depth of the file, to the 8 bits that Pillow's pixels have."""
    key = image.info.get("transparency")
    if image.mode in ("1", "L") and isinstance(key, int) and depth < 8 and key < 1 << depth:
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def _split(image: Image.Image) -> tuple[Image.Image, np.ndarray | None]:
    """Colours and transparency apart: a picture without alpha, and its alpha as uint8 (H, W) or None."""
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), np.asarray(image.getchannel("A"))
    key = image.info.pop("transparency", None) if image.mode in ("I", "F") or image.mode.startswith("I;16") else None
    if key is not None:
        return image, np.where(np.asarray(image) == key, np.uint8(0), np.uint8(255))
    if image.mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
        return image.convert("RGB"), np.asarray(image.getchannel("A"))
    return image, None


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


def _upright(image: Image.Image) -> Image.Image:
    """Turned and mirrored as its EXIF orientation says; a photo whose EXIF is broken stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # any of Pillow's EXIF readers, on metadata that nobody needs
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """`image` in a mode with 8 bits a channel that has a colour meaning: L, RGB, CMYK or LAB."""
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
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
            if image.mode == "RGB" and "srgb" in name.lower().replace(" ", ""):
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
    return image.convert("RGB"), None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that can be read here; HEIC comes from phones and is read where pillow-heif is installed."""
    Image.init()
    try:
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _what_it_is(data: bytes, label: str) -> str:
    """A sentence about bytes that are no supported picture."""
    head = data[:512]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    box = head[8:12] if head[4:8] == b"ftyp" else b""
    kind = None
    if head.startswith(b"%PDF"):
        kind = "a PDF document"
    elif text.startswith((b"<!doctype html", b"<html")):
        kind = "a web page"
    elif b"<svg" in text:
        kind = "an SVG drawing"
    elif box in (b"avif", b"avis"):
        return f"{label} is damaged: it begins like a picture, but its header cannot be read."
    elif box in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"):
        return f"{label} is a HEIC photo; install pillow-heif to open it, or save it as JPEG."
    elif box or head.startswith(b"\x1a\x45\xdf\xa3") or head[8:12] == b"AVI ":
        kind = "a video"
    elif head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf")):
        kind = "an archive"
    elif head.startswith(b"8BPS"):
        kind = "a Photoshop file"
    elif head.startswith((b"II*\0", b"MM\0*", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")) or head[8:12] == b"WEBP":
        return f"{label} is damaged: it begins like a picture, but its header cannot be read."
    if kind is None:
        return f"{label} is not a picture that can be opened; save it as {READABLE}."
    return f"{label} is {kind}, not a picture that can be opened; save it as {READABLE}."


def _reason(error: BaseException) -> str:
    """The error's own words, short and without addresses of objects."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(re.sub(r"<[^>]*>", "the file", text), 120).strip(" .")
