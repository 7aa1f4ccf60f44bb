"""The bytes of a picture from wherever it is, and its name.

A path, bytes, an open file or a data URI; what is beyond the limit is refused before it is read or decoded.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import urllib.parse
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from rmbg.errors import PhotoError, RmbgError, printable, reason
from rmbg.settings import Settings


def read(source: Any, name: str | None, settings: Settings) -> tuple[bytes, str]:
    """The bytes of `source`, at most the limit of them, and its name."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        count = source.nbytes if isinstance(source, memoryview) else len(source)
        _check_bytes(count, label_of(name or "The picture"), settings)
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
        raise PhotoError(f"{label} could not be read: {reason(error)}.") from None


def _read_file(file: IO[bytes], label: str, settings: Settings) -> bytes:
    """All bytes of an open file, in as many pieces as it gives them; one more than the limit at most."""
    data, left = bytearray(), settings.max_bytes + 1
    try:
        while left > 0 and (piece := file.read(left)):
            if isinstance(piece, str):
                raise PhotoError(f"{label} was opened as text; open it in binary mode ('rb').")
            data += piece
            left -= len(piece)
    except RmbgError:
        raise
    except UnicodeDecodeError:
        raise PhotoError(f"{label} was opened as text; open it in binary mode ('rb').") from None
    except Exception as error:  # gzip, zipfile and connections have errors of their own that are no OSError
        raise PhotoError(f"{label} could not be read: {reason(error)}.") from None
    _check_bytes(len(data), label, settings, exact=False)
    return bytes(data)


def _read_data_uri(uri: str, settings: Settings) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise PhotoError("The data URI has no data: it must look like data:image/png;base64,...")
    # Before it is decoded: every byte takes three characters at most.
    _check_bytes(len(body) // 3, "The data URI", settings, exact=False)
    try:
        if re.search(r";\s*base64\s*$", head, re.IGNORECASE):
            data = base64.b64decode(re.sub(r"\s+", "", urllib.parse.unquote(body)), validate=True)
        else:
            data = urllib.parse.unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        raise PhotoError("The data URI is damaged: what it holds cannot be decoded.") from None
    _check_bytes(len(data), "The data URI", settings)
    return data


def _check_bytes(count: int, label: str, settings: Settings, exact: bool = True) -> None:
    """Refuse more bytes than the limit; not `exact` where `count` are those known of, and there may be more."""
    if count > settings.max_bytes:
        has = f"{count / 1e6:.1f} MB, " if exact else ""
        raise PhotoError(
            f"{label} has {has}more than the limit of {settings.max_bytes / 1e6:g} MB; make it smaller or raise RMBG_MAX_BYTES."
        )


def file_name(given: Any) -> str:
    """The name that an open file or picture knows itself by; some know a number or nothing."""
    return Path(os.fsdecode(given)).name or "photo" if isinstance(given, (str, bytes, os.PathLike)) else "photo"


def stem(name: str) -> str:
    """The stem of a file's name, as every system can write it: no folders of either kind, nothing invisible.

    It leaves room for what is added to the names of downloads: Windows counts characters, others 255 bytes.
    """
    base = PureWindowsPath(PurePosixPath(name).name).stem
    text = re.sub(r'[<>:"|?*]', "_", "".join(c for c in base if c.isprintable())).strip(" .")
    return text[:120].encode()[:180].decode(errors="ignore") or "photo"


def label_of(name: str) -> str:
    """A file's name as it may stand in a sentence: without folders, on one line and not too long."""
    base = PureWindowsPath(PurePosixPath(name).name).name or name
    return printable(base, 60) or "photo"
