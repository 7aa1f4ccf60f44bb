"""Pixels to bytes: PNG, WebP, JPEG, AVIF; and bytes to a file, whole or not at all."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from rmbg import png
from rmbg.compose import Colour, blend
from rmbg.errors import OptionError, OutputError, printable


@dataclass(frozen=True)
class Format:
    """What a format can hold, and what its files are called."""

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

#: Longest side that a format's header can hold.
LONGEST = {"webp": 16383, "webp-lossy": 16383, "jpeg": 65500, "avif": 32768}


def available() -> list[Format]:
    """The formats that this Pillow can write."""
    return [f for f in FORMATS.values() if f.id != "avif" or features.check("avif")]


def format_named(name: str) -> Format:
    """The format of an id or of a file's suffix, in any case and with or without its dot."""
    key = name.lower().lstrip(".")
    key = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg"}.get(key, key)
    if key not in {f.id for f in available()}:
        raise OptionError(
            f"There is no output format {printable(name, 60)!r}; choose from {', '.join(f.id for f in available())}."
        )
    return FORMATS[key]


def encode(
    pixels: np.ndarray, form: Format, *, quality: int = QUALITY, matte_colour: Colour = (255, 255, 255), quick: bool = False
) -> bytes:
    """A picture as the bytes of a file.

    Parameters
    ----------
    pixels : uint8 array (H, W), (H, W, 3) or (H, W, 4)
        A mask, a picture, or a cut-out with straight alpha.
    form : Format
    quality : int
        1 to 100, for lossy formats.
    matte_colour : (red, green, blue)
        What transparent pixels are laid on where the format has no alpha.

    quick : bool
        Larger bytes sooner, for what is only looked at.

    Raises
    ------
    OptionError
        If the quality is out of range or the picture too long for the format.
    """
    if not 1 <= quality <= 100:
        raise OptionError(f"The quality is {quality}; it must be between 1 and 100.")
    if max(pixels.shape[:2]) > LONGEST.get(form.id, 2**31):
        raise OptionError(f"{form.title} holds at most {LONGEST[form.id]} pixels a side; choose PNG.")
    if pixels.ndim == 3 and pixels.shape[2] == 4 and not form.alpha:
        alpha = pixels[..., 3].astype(np.float32) * np.float32(1 / 255)
        pixels = blend(pixels[..., :3], alpha, np.array(matte_colour, np.uint8))
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    match form.id:
        case "png":
            out.write(png.encode(pixels))
        case "webp":
            image.save(out, "WEBP", lossless=True, quality=40, method=2, exact=True)
        case "webp-lossy":
            image.save(out, "WEBP", quality=quality, alpha_quality=100, method=0 if quick else 4)
        case "jpeg":
            # Not optimize=True: libjpeg then needs the whole file in one buffer, and Pillow's is too small for a noisy photo.
            image.save(out, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        case "avif":
            image.save(out, "AVIF", quality=quality, speed=8)
    return out.getvalue()


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Put `data` at `path`: all of it under its name, or nothing at all.

    The bytes go to a hidden neighbour first and take the name in one step, so a crash leaves the old file as it was. A file
    that was there passes its permissions on. What is no file, such as a device or a named pipe, is written to and not replaced.

    Raises
    ------
    OutputError
        If the folder is missing, full or not writable.
    """
    target = Path(path)
    check_writable(target)
    temporary = None
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise OutputError(f"{_shown(target)} cannot be written: {error.strerror or error}.") from None
    finally:
        if temporary:  # also when the user stops it here
            temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OutputError if it is plain already that nothing can be written at `path`."""
    target = Path(path)
    if "\0" in str(target):
        raise OutputError(f"{_shown(target)} cannot be the name of a file.")
    try:
        if target.is_dir():
            raise OutputError(f"{_shown(target)} is a folder; give the name of a file.")
        if not target.parent.is_dir():
            raise OutputError(f"There is no folder {_shown(target.parent)}; make it first.")
        if target.exists() and not os.access(target, os.W_OK):
            raise OutputError(f"{_shown(target)} is there and may not be written over; choose another name.")
        if not os.access(target.parent, os.W_OK) and (not target.exists() or target.is_file()):
            raise OutputError(f"The folder {_shown(target.parent)} may not be written to; choose another.")
    except OutputError:
        raise
    except OSError as error:  # a name that is too long
        raise OutputError(f"{_shown(target)} cannot be written: {error.strerror or error}.") from None


def _shown(path: Path) -> str:
    return printable(str(path), 120)


def _umask() -> int:
    """The process's mask for new files; it can only be read by setting it, by one thread at a time."""
    with _masking:
        mask = os.umask(0o022)
        os.umask(mask)
        return mask


_masking = threading.Lock()
