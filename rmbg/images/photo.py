"""Decoding of any image source into a `Photo`: paths, bytes, open files, data URIs, PIL images.

Sources beyond the size limit are rejected before they are read or decoded.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

import numpy as np
from PIL import Image

from rmbg.errors import PhotoError, RmbgError, printable, reason
from rmbg.images.decode import decode_bytes, decode_image
from rmbg.runtime.messages import Message, megabytes
from rmbg.runtime.threads import row_strips
from rmbg.settings import Settings


def read(source: Any, name: str | None, settings: Settings) -> tuple[bytes, str]:
    """Read an image source.

    Parameters
    ----------
    source : bytes-like, path, binary file object or data URI
    name : str or None
        File name; None for that of the source.
    settings : Settings
        Size limit.

    Returns
    -------
    data : bytes
    name : str

    Raises
    ------
    PhotoError
        If the source cannot be read, has an unsupported type, or is larger than the limit.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        count = source.nbytes if isinstance(source, memoryview) else len(source)
        _check_bytes(count, label_of(name) if name else Message("The picture"), settings)
        return bytes(source), name or "photo"
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _read_data_uri(source, settings), name or "photo"
    if isinstance(source, (str, os.PathLike)):
        path = Path(os.fsdecode(source))
        name = name or path.name or str(path)
        return _read_path(path, label_of(name), settings), name
    if hasattr(source, "read"):
        name = name or file_name(getattr(source, "name", None))
        return _read_file(source, label_of(name), settings), name
    raise PhotoError(f"A picture cannot be read from a {type(source).__name__}. Pass bytes, a path, a file or a PIL image.")


def _read_path(path: Path, label: str, settings: Settings) -> bytes:
    try:
        if path.is_dir():
            raise PhotoError(f"{label} is a folder. Choose a picture file.")
        _check_bytes(path.stat().st_size, label, settings)
        with open(path, "rb") as file:
            return _read_file(file, label, settings)
    except PhotoError:
        raise
    except FileNotFoundError:
        raise PhotoError(f"There is no file {printable(str(path), 120)!r}. Check its path.") from None
    except (OSError, ValueError) as error:
        raise PhotoError(Message("{name} could not be read: {reason}.", name=label, reason=reason(error))) from None


def _read_file(file: IO[bytes], label: str, settings: Settings) -> bytes:
    """Read an open file to its end; stops one byte beyond the limit. A read may return fewer bytes than requested."""
    data, remaining = bytearray(), settings.max_bytes + 1
    try:
        while remaining > 0 and (piece := file.read(remaining)):
            if isinstance(piece, str):
                raise PhotoError(f"{label} was opened as text. Open it in binary mode ('rb').")
            data += piece
            remaining -= len(piece)
    except RmbgError:
        raise
    except UnicodeDecodeError:
        raise PhotoError(f"{label} was opened as text. Open it in binary mode ('rb').") from None
    except Exception as error:  # gzip, zipfile and sockets raise errors that are not an OSError
        raise PhotoError(Message("{name} could not be read: {reason}.", name=label, reason=reason(error))) from None
    _check_bytes(len(data), label, settings, exact=False)
    return bytes(data)


def _read_data_uri(uri: str, settings: Settings) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise PhotoError("The data URI has no data. It must have the form data:image/png;base64,...")
    is_base64 = re.search(r";\s*base64\s*$", head[-100:], re.IGNORECASE) is not None
    # Check a lower bound of the decoded size first: base64 with line breaks uses less than 1.43 characters a byte,
    # percent-encoding at most three.
    _check_bytes(len(body) * 7 // 10 if is_base64 else len(body) // 3, "The data URI", settings, exact=False)
    try:
        if is_base64:
            data = base64.b64decode(re.sub(r"\s+", "", urllib.parse.unquote(body)), validate=True)
        else:
            data = urllib.parse.unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise PhotoError("The data URI is damaged and cannot be decoded. Check that it is complete.") from None
    _check_bytes(len(data), "The data URI", settings)
    return data


def _check_bytes(count: int, label: str, settings: Settings, exact: bool = True) -> None:
    """Raise PhotoError if `count` exceeds the limit; if not `exact`, it is a lower bound, which the message omits."""
    if count > settings.max_bytes:
        values, advice = {"name": label, "limit": megabytes(settings.max_bytes)}, " RMBG_MAX_BYTES sets the limit."
        if not exact:
            text = "{name} has more than the limit of {limit}. Resize it and try again."
            raise PhotoError(Message(text, owner=advice, **values))
        text = "{name} has {size}, more than the limit of {limit}. Resize it and try again."
        raise PhotoError(Message(text, owner=advice, size=megabytes(count), **values))


def file_name(value: Any) -> str:
    """Return the file name in the ``name`` of an open file, which may also be a descriptor number or None; else ``photo``."""
    return Path(os.fsdecode(value)).name or "photo" if isinstance(value, (str, bytes, os.PathLike)) else "photo"


def stem(name: str) -> str:
    """Return the stem of a file name that is valid on every system: without folders, reserved and invisible characters.

    It is short enough for the additions to the names of downloads: the limit is 255 characters on Windows, 255 bytes elsewhere.
    """
    base = PureWindowsPath(PurePosixPath(name).name).stem
    text = re.sub(r'[<>:"|?*]', "_", "".join(c for c in base if c.isprintable())).strip(" .")
    return text[:120].encode()[:180].decode(errors="ignore") or "photo"


def label_of(name: str) -> str:
    """Return a file name for use in messages: without folders, printable, at most 60 characters."""
    base = PureWindowsPath(PurePosixPath(name).name).name or name
    return printable(base, 60) or "photo"


# The decoded photo.


#: Gray level behind the transparent parts of a photo in the input of a network.
FLATTEN_LEVEL = 255

#: Rows that are flattened at a time, so that intermediate arrays fit into the CPU's cache.
STRIP_ROWS = 64


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded input.

    Attributes
    ----------
    rgb : uint8 array (H, W, 3)
        Upright, sRGB. Transparent pixels have the colors of the file.
    alpha : uint8 array (H, W) or None
        The photo's own alpha; None if it is opaque everywhere.
    name : str
        Stem of the file name, for the names of downloads.
    notes : tuple of str
        Messages to the user about the decoding.
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
        """Return the photo with its transparent parts on white, as input of a network: uint8 (H, W, 3)."""
        if self.alpha is None:
            return self.rgb
        flat = np.empty_like(self.rgb)
        for rows in row_strips(self.height, STRIP_ROWS):
            alpha = self.alpha[rows, :, None].astype(np.uint16)
            mixed = self.rgb[rows] * alpha  # with the rest at most 255 * 255, which fits into 16 bits
            mixed += FLATTEN_LEVEL * (255 - alpha) + np.uint16(127)
            flat[rows] = mixed // 255
        return flat


def open_photo(source: Any, *, name: str | None = None, settings: Settings | None = None) -> Photo:
    """Decode any image source into a `Photo`.

    Parameters
    ----------
    source : bytes-like, path, binary file object, PIL image, data URI or Photo
        A string that begins with ``data:`` is a data URI, any other string a path.
    name : str, optional
        File name, if `source` has none.
    settings : Settings, optional
        Limits. By default those of the environment.

    Returns
    -------
    Photo

    Raises
    ------
    PhotoError
        If the source is not an image, of an unsupported format, damaged, truncated, or beyond the limits.
    """
    settings = settings or Settings.from_environ()
    if isinstance(source, Photo):
        return source
    if isinstance(source, Image.Image):
        name = name or file_name(getattr(source, "filename", None))
        rgb, alpha, notes = decode_image(source, label_of(name), settings)
    else:
        data, name = read(source, name, settings)
        rgb, alpha, notes = decode_bytes(data, label_of(name), settings)
    return Photo(rgb, alpha, stem(name), notes)
