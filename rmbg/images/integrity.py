"""Detection of truncated picture files, and descriptions of files that are not pictures.

Decoders detect most damage. These checks cover the rest: truncated files whose missing pixels would be decoded as gray, and
those on which libtiff prints to the terminal.
"""

from __future__ import annotations

import struct

from PIL import Image, UnidentifiedImageError

from rmbg.images import tiff
from rmbg.message import Message

READABLE = "JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF"

#: TIFF tags that are required for decoding: bit depth, offsets and byte counts of strips and tiles, palette, JPEG tables.
REQUIRED_TAGS = (258, 273, 279, 320, 324, 325, 347)

#: TIFF tags that identify a raw file of a camera.
SUBFILE_TYPE, SUB_DIRECTORIES, DNG_VERSION = 254, 330, 50706

#: Brands of pictures in the ISO base media file format; other brands are videos.
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")


def check_directory(data: bytes) -> None:
    """Reject a TIFF whose directory or required values are truncated, as libtiff prints such errors, and raw files.

    The first picture of a raw file is a thumbnail, which would be decoded instead of the photo.

    Raises
    ------
    UnidentifiedImageError
    """
    try:
        entries = _directory(data)
    except struct.error:
        raise UnidentifiedImageError from None
    truncated = any(e.tag in REQUIRED_TAGS and e.size > 4 and e.offset + e.size > len(data) for e in entries)
    if truncated or _is_raw(data):
        raise UnidentifiedImageError


def _directory(data: bytes) -> list[tiff.Entry]:
    return list(tiff.directory(data)) if data[:4] in tiff.VALID else []


def _is_raw(data: bytes) -> bool:
    """True if the first picture of a TIFF is a reduced version of another one that Pillow cannot decode (NEF, ARW, DNG)."""
    try:
        values = {entry.tag: entry.offset for entry in _directory(data)}
    except struct.error:
        return False
    return values.get(SUBFILE_TYPE) == 1 and (SUB_DIRECTORIES in values or DNG_VERSION in values)


def check_end(data: bytes) -> None:
    """Raise OSError if a JPEG has no end marker, as after an incomplete download; libjpeg decodes missing pixels as gray."""
    at = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data[at + 1] == 0xDA:  # start of scan; the markers of an embedded preview lie inside earlier segments
            if data.find(b"\xff\xd9", at) < 0:
                raise OSError("the end is missing")
            return
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def check_strips(image: Image.Image, size: int) -> None:
    """Raise OSError if JPEG-compressed strips exceed the `size` of a TIFF file; missing pixels would be decoded as gray."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if image.info.get("compression") == "jpeg":
        for offsets, counts in ((273, 279), (324, 325)):
            strips = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
            if any(offset + count > size for offset, count in strips):
                raise OSError("the end is missing")


def describe_unsupported(data: bytes, label: str, heif: bool) -> str:
    """Return the error message for bytes that are not a supported picture; `heif` is True if HEIC is supported."""
    kind = _file_kind(data)
    if kind:
        return Message(
            "{name} is {kind}, not a picture. Save it as {formats}.", name=label, kind=Message(kind), formats=READABLE
        )
    box = data[8:12] if data[4:8] == b"ftyp" else b""
    if box in HEIF_BRANDS and not heif:
        return Message("{name} is a HEIC photo, which cannot be decoded here. Save it as JPEG and try again.", name=label)
    if box or data.startswith((b"II*\0", b"MM\0*", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")) or data[8:12] == b"WEBP":
        return Message("{name} is damaged: its header cannot be read. Export it again from its source.", name=label)
    return Message("{name} is not a picture of a supported format. Save it as {formats}.", name=label, formats=READABLE)


def _file_kind(data: bytes) -> str | None:
    """Return the type of a file that is known not to be a picture; None for other files."""
    head = data[:512]
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    box = head[8:12] if head[4:8] == b"ftyp" else b""
    if head.startswith(b"%PDF"):
        return "a PDF document"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if b"<svg" in text:
        return "an SVG drawing"
    if box == b"crx " or _is_raw(data):
        return "a camera's raw file"
    if (box and box not in AVIF_BRANDS + HEIF_BRANDS) or head.startswith(b"\x1a\x45\xdf\xa3") or head[8:12] == b"AVI ":
        return "a video"
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf")):
        return "an archive"
    if head.startswith(b"8BPS"):
        return "a Photoshop file"
    return None
