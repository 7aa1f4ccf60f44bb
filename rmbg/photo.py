"""The door: any bytes, path, file, data URI or PIL image becomes a photo, or one clear error.

What comes out is upright, sRGB, 8 bits a channel. Limits are checked on the header, before any pixel is decoded, and a
file that breaks off is refused as a whole: half a picture is never passed on.
"""

from __future__ import annotations

import base64
import binascii
import functools
import io
import os
import re
import urllib.parse
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from rmbg.errors import PhotoError
from rmbg.settings import Settings

# The limits below are our own and lower; Pillow's warning would only add a line to the terminal.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

#: What the door lets in. Pillow knows forty more, some of which start other programs (EPS) or are mere attack surface.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

#: A subject cannot be told from its background in fewer pixels than this a side.
MIN_SIDE = 8

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
        alpha = self.alpha[..., None].astype(np.uint32)
        mixed = self.rgb * alpha + FLATTEN_ON * (255 - alpha)
        return ((mixed + 127) // 255).astype(np.uint8)


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
        label = name or getattr(source, "filename", "") or "photo"
        return _decode(source.copy(), label, settings)
    data, label = _read(source, name, settings)
    return _open_bytes(data, label, settings)


def stem(name: str) -> str:
    """The stem of a file's name, without folders of either kind of system and without control characters."""
    base = PureWindowsPath(PurePosixPath(name).name).stem
    text = "".join(c for c in base if c.isprintable()).strip(" .")
    return text[:120] or "photo"


def _read(source: Any, name: str | None, settings: Settings) -> tuple[bytes, str]:
    """The bytes of `source`, at most the limit of them, and a name to call them by."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        _check_bytes(len(source), name or "The picture", settings)
        return bytes(source), name or "photo"
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _read_data_uri(source, settings), name or "photo"
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        label = name or path.name
        try:
            if path.is_dir():
                raise PhotoError(f"{label} is a folder; give a picture file.")
            _check_bytes(path.stat().st_size, label, settings)
            with open(path, "rb") as file:
                return _read_file(file, label, settings), label
        except FileNotFoundError:
            raise PhotoError(f"There is no file {str(path)!r}.") from None
        except (OSError, ValueError) as error:
            raise PhotoError(f"{label} could not be read: {_reason(error)}.") from None
    if hasattr(source, "read"):
        label = name or Path(str(getattr(source, "name", "") or "photo")).name
        return _read_file(source, label, settings), label
    raise PhotoError(f"A picture cannot be read from a {type(source).__name__}; give bytes, a path, a file or a PIL image.")


def _read_file(file: IO[bytes], label: str, settings: Settings) -> bytes:
    data = file.read(settings.max_bytes + 1)
    if not isinstance(data, bytes):
        raise PhotoError(f"{label} was opened as text; open it in binary mode ('rb').")
    _check_bytes(len(data), label, settings)
    return data


def _read_data_uri(uri: str, settings: Settings) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise PhotoError("The data URI has no data: it must look like data:image/png;base64,...")
    if len(body) > settings.max_bytes * 4 // 3 + 4:
        _check_bytes(len(body) * 3 // 4, "The data URI", settings)
    if not re.search(r";\s*base64\s*$", head, re.IGNORECASE):
        return urllib.parse.unquote_to_bytes(body)
    try:
        return base64.b64decode(re.sub(r"\s+", "", urllib.parse.unquote(body)), validate=True)
    except (binascii.Error, ValueError):
        raise PhotoError("The data URI is not valid base64.") from None


def _check_bytes(count: int, label: str, settings: Settings) -> None:
    if count > settings.max_bytes:
        raise PhotoError(
            f"{label} has {count / 1e6:.1f} MB, more than the limit of {settings.max_bytes / 1e6:g} MB; make it smaller "
            "or raise RMBG_MAX_BYTES."
        )


def _open_bytes(data: bytes, label: str, settings: Settings) -> Photo:
    if not data:
        raise PhotoError(f"{label} is empty: it has no bytes.")
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            _check_size(image.size, label, settings)
            if image.format == "PNG":
                # Decoding does not look at the checksums of the pixel data; only verify() does.
                with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
                    again.verify()
            return _decode(image, label, settings)
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
    image = _upright(image)
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        if image.mode in ("I;16", "I", "F"):
            image.info.pop("transparency", None)
        else:
            image = image.convert("RGBA")
            alpha = np.asarray(image.getchannel("A"))
            image = image.convert("RGB")
    image = _eight_bits(image)
    image, converted = _to_srgb(image, profile)
    if converted:
        notes.append(f"Colours were converted to sRGB from {converted}.")
    if alpha is not None and alpha.min() == 255:
        alpha = None
    return Photo(np.array(image), alpha, stem(label), tuple(notes))


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
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image, dtype=np.float64)))
    return image.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Grey values of unknown range as uint8: [0, 1], [0, 255] and [0, 65535] are recognised, others spread from end to end."""
    finite = np.isfinite(values)
    values = np.where(finite, values, 0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values, high = values - low, high - low
        top = high or 1.0
    else:
        top = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    return np.rint(values * (255.0 / top)).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, str | None]:
    """`image` as sRGB, and the name of the profile that it was converted from (None if there was nothing to do)."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            name = " ".join(ImageCms.getProfileDescription(source).split())[:60]
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
    elif text.startswith(b"<svg") or b"<svg" in text:
        kind = "an SVG drawing"
    elif text.startswith((b"<!doctype html", b"<html")):
        kind = "a web page"
    elif box in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis"):
        return f"{label} is a HEIC photo; install pillow-heif to open it, or save it as JPEG."
    elif box:
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
    return re.sub(r"<[^>]*>", "the file", text.splitlines()[0]).strip(" .")[:120]
