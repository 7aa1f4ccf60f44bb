"""Rejection of picture files that take a decoder far more time or memory than their size accounts for.

A JPEG may overwrite its pixels thousands of times, in scans of a few bytes each. The entries of a TIFF or EXIF directory may
all refer to the same bytes, which Pillow copies for each of them. The checks take time linear in the size of the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Any

from rmbg.images import tiff

#: Limit for the scans of a JPEG, the same as in libtiff. Encoders write about ten, optimizing ones several dozen.
MAX_SCANS = 100

#: Limits for the segments of a JPEG, and for bytes between them before the first scan, which Pillow reads one at a time.
MAX_SEGMENTS, MAX_PADDING = 10_000, 65_536

#: Limit for the values of one TIFF directory entry, each of which Pillow converts to an object. 64 megapixels have 250,000
#: tiles of 16 x 16, and the largest palette has 196,608 values.
MAX_VALUES = 300_000

#: JPEG markers except those inside scans: stuffing, fill bytes and restarts.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])")

#: Markers that are followed by the length of their segment.
_SEGMENTS = frozenset(b"\xfe" + bytes(range(0xC0, 0xF0))) - frozenset(range(0xD0, 0xDA)) - {0xC8}
_SCAN, _END, _EXIF = 0xDA, 0xD9, 0xE1


def check_jpeg(data: bytes) -> None:
    """Raise OSError if a JPEG has too many scans, segments or bytes between them, or an oversized EXIF directory.

    Markers are read as in libjpeg, up to the end of the first picture. Data after it, such as the video of a motion photo, is
    not decoded.
    """
    if not data.startswith(b"\xff\xd8"):
        return
    scans, segments, padding, at, exif = 0, 0, 0, 2, bytearray()
    while (match := _MARKER.search(data, at)) and (marker := match[1][0]) != _END:
        padding += 0 if scans else match.start() - at  # after the first scan these bytes are pixels
        segments += 1
        scans += marker == _SCAN
        at = match.end()
        if marker in _SEGMENTS:
            length = int.from_bytes(data[at : at + 2], "big")
            if marker == _EXIF and data.startswith(b"Exif\0\0", at + 2):
                exif += data[at + 8 : at + length]  # Pillow concatenates several segments
            at += max(length, 2)
        if scans > MAX_SCANS:
            raise OSError(f"it has more than {MAX_SCANS} scans")
        if segments > MAX_SEGMENTS:
            raise OSError(f"it has more than {MAX_SEGMENTS:,} segments")
    padding += 0 if scans else (match.start() if match else len(data)) - at
    if padding > MAX_PADDING:
        raise OSError("its header is padded")
    check_directory_size(bytes(exif))


def check_exif(info: Mapping[Any, Any]) -> None:
    """Raise OSError if the EXIF directory in the ``info`` of an open PIL image is oversized."""
    data = info.get("exif") or b""
    if not data and info.get("Raw profile type exif"):  # PNG text chunk of ImageMagick
        try:
            data = bytes.fromhex("".join(str(info["Raw profile type exif"]).split("\n")[3:]))
        except ValueError:
            return
    check_directory_size(bytes(data))


def check_directory_size(data: bytes) -> None:
    """Raise OSError if the entries of a TIFF or EXIF directory overlap, or if one of them has too many values.

    Entries that refer to bytes beyond the end of the file are not counted, as Pillow rejects them.
    """
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    total = 0
    try:
        for entry in tiff.directory(data):
            if entry.offset + entry.size <= len(data):
                total += entry.size
                if entry.kind not in tiff.BYTE_TYPES and entry.count > MAX_VALUES:
                    raise OSError(f"its directory has an entry of more than {MAX_VALUES:,} values")
    except struct.error:
        pass  # truncated; Pillow reads the complete entries only
    if total > 2 * len(data):
        raise OSError("the entries of its directory overlap")
