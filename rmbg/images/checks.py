"""Checks of picture files before they are decoded: bombs, truncation, raw files, and files of other types."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

from rmbg.runtime.messages import Message

# Directories of TIFF files, which EXIF data uses as well (TIFF 6.0, section 2; BigTIFF).


#: Size of one value by type, in bytes. The count of text and undefined data is their number of bytes.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

#: Types of bytes, text and undefined data.
BYTE_TYPES = (1, 2, 7)

#: Signatures of valid files, and all signatures that Pillow accepts.
VALID = (b"II*\0", b"MM\0*")
_ACCEPTED = re.compile(rb"II\*\0|II\0\*|MM\0\*|MM\*\0|II\+\0|MM\0\+")


@dataclass(frozen=True)
class Entry:
    """Directory entry; `offset` is the position of its values in the file, or the values themselves if they fit into it."""

    tag: int
    kind: int
    count: int
    offset: int

    @property
    def size(self) -> int:
        """Size of all values in bytes; 0 for an unknown type."""
        return self.count * TYPE_SIZES.get(self.kind, 0)


def directory(data: bytes) -> Iterator[Entry]:
    """Yield the entries of the first directory; none for files of other types.

    Raises
    ------
    struct.error
        After the last complete entry, if the directory is truncated.
    """
    if not _ACCEPTED.match(data):
        return
    order, big = "<" if data[:1] == b"I" else ">", data[2] == 43
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    number = struct.Struct(f"{order}{'Q' if big else 'H'}")
    entry = struct.Struct(f"{order}{'HHQQ' if big else 'HHII'}")
    if start > len(data):
        raise struct.error
    (count,) = number.unpack_from(data, start)
    for at in range(count):
        yield Entry(*entry.unpack_from(data, start + number.size + entry.size * at))


# Check of the structure of HEIC files, whose few bytes can describe hours of decoding.


#: Limit for the pixels that are decoded for one picture: a multiple of its own pixels, and a constant for the padding of small
#: ones. Tiles of a phone's photo exceed it by a few percent.
MAX_RATIO, MAX_PADDING = 8, 8_000_000

#: Limit for the references of a file; the most tiles that libheif accepts.
MAX_REFERENCES = 1000

#: Limits for the boxes in a box, and for the bytes of references and properties; 1000 tiles take some 50 kB.
MAX_BOXES, MAX_STRUCTURE = 10_000, 1_000_000

#: Levels of pictures composed of composed pictures.
MAX_DEPTH = 4


@dataclass
class _Items:
    """Pixels of each item, items from which it is composed, and items that it belongs to, such as the picture of an alpha."""

    pixels: dict[int, int] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)
    owners: dict[int, list[int]] = field(default_factory=dict)
    costs: dict[int, int] = field(default_factory=dict)

    def cost(self, item: int, depth: int = 0) -> int:
        """Return the number of pixels that are decoded for an item."""
        if depth > MAX_DEPTH:
            raise OSError("its pictures are nested too deeply")
        if not self.pixels.get(item):
            raise OSError("a part of it has no size")
        if item not in self.costs:
            parts = sum(self.cost(part, depth + 1) for part in self.parts.get(item, ()))
            self.costs[item] = self.pixels[item] + parts
        return self.costs[item]


def check_heif(data: bytes) -> None:
    """Raise OSError if a picture of a HEIC file takes far more decoding than its size accounts for.

    Raises
    ------
    UnidentifiedImageError
        If the file has no items, or its boxes are truncated.
    """
    try:
        items = _read(data)
    except (struct.error, IndexError):
        raise UnidentifiedImageError from None
    if sum(map(len, [*items.parts.values(), *items.owners.values()])) > MAX_REFERENCES:
        raise OSError(f"it has more than {MAX_REFERENCES:,} references between its pictures")
    for item in items.parts:
        _check_ratio(items.cost(item), items.pixels[item])
    for item, owners in items.owners.items():
        _check_ratio(items.cost(item), max(items.pixels.get(owner, 0) for owner in owners))


def _check_ratio(cost: int, pixels: int) -> None:
    if cost > MAX_RATIO * pixels + MAX_PADDING:
        raise OSError("its parts have many times the pixels of the picture")


def _read(data: bytes) -> _Items:
    metas = [body for kind, body in _boxes(memoryview(data)) if kind == b"meta"]
    if len(metas) != 1:
        raise UnidentifiedImageError
    items = _Items()
    boxes = list(_boxes(metas[0][4:]))
    names = [kind for kind, _ in boxes]
    if any(names.count(kind) > 1 for kind in (b"pitm", b"iinf", b"iloc", b"iref", b"iprp")):
        raise UnidentifiedImageError  # decoders differ in the one that they use
    for kind, body in boxes:
        if kind in (b"iref", b"iprp") and len(body) > MAX_STRUCTURE:
            raise OSError("the list of its pictures is too long")
        if kind == b"iref":
            _read_references(body, items)
        elif kind == b"iprp":
            properties = list(_boxes(body))
            # Width times height of the properties that are the size of a picture.
            sizes = [
                math.prod(struct.unpack_from(">II", own, 4)) if name == b"ispe" else None
                for box, part in properties
                if box == b"ipco"
                for name, own in _boxes(part)
            ]
            for box, part in properties:
                if box == b"ipma":
                    _read_associations(part, sizes, items)
    return items


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and contents of consecutive boxes."""
    at = number = 0
    while at + 8 <= len(data):
        number += 1
        if number > MAX_BOXES:
            raise OSError(f"it has more than {MAX_BOXES:,} boxes")
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:  # up to the end
            size = len(data) - at
        if size < head:
            raise UnidentifiedImageError
        yield kind, data[at + head : at + size]
        at += size


def _read_references(body: memoryview, items: _Items) -> None:
    width = "I" if body[0] else "H"
    size = struct.calcsize(f">{width}")
    for kind, part in _boxes(body[4:]):
        start, count = struct.unpack_from(f">{width}H", part)
        targets = struct.unpack_from(f">{count}{width}", part, size + 2)
        if kind == b"dimg":
            items.parts.setdefault(start, []).extend(targets)
        elif kind == b"auxl":
            items.owners.setdefault(start, []).extend(targets)


def _read_associations(body: memoryview, sizes: list[int | None], items: _Items) -> None:
    """Assign the sizes of the property container to the items."""
    wide = body[3] & 1
    (entries,) = struct.unpack_from(">I", body, 4)
    at = 8
    for _ in range(entries):
        item, count = struct.unpack_from(">IB" if body[0] else ">HB", body, at)
        at += 5 if body[0] else 3
        for index in struct.unpack_from(f">{count}{'H' if wide else 'B'}", body, at):
            number = index & (0x7FFF if wide else 0x7F)
            pixels = sizes[number - 1] if 0 < number <= len(sizes) else None
            if pixels is not None:
                items.pixels[item] = max(pixels, items.pixels.get(item, 0))
        at += count * (2 if wide else 1)


# Rejection of picture files that take a decoder far more time or memory than their size accounts for.


#: Limit for the scans of a JPEG, the same as in libtiff. Encoders write about ten, optimizing ones several dozen.
MAX_SCANS = 100

#: Limits for the segments of a JPEG, and for bytes between them before the first scan, which Pillow reads one at a time.
MAX_SEGMENTS, MAX_HEADER_PADDING = 10_000, 65_536

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
    if padding > MAX_HEADER_PADDING:
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
        for entry in directory(data):
            if entry.offset + entry.size <= len(data):
                total += entry.size
                if entry.kind not in BYTE_TYPES and entry.count > MAX_VALUES:
                    raise OSError(f"its directory has an entry of more than {MAX_VALUES:,} values")
    except struct.error:
        pass  # truncated; Pillow reads the complete entries only
    if total > 2 * len(data):
        raise OSError("the entries of its directory overlap")


# Detection of truncated picture files, and descriptions of files that are not pictures.


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
        entries = list(directory(data)) if data[:4] in VALID else []
    except struct.error:
        raise UnidentifiedImageError from None
    truncated = any(e.tag in REQUIRED_TAGS and e.size > 4 and e.offset + e.size > len(data) for e in entries)
    if truncated or _is_raw(data):
        raise UnidentifiedImageError


def _is_raw(data: bytes) -> bool:
    """True if the first picture of a TIFF is a reduced version of another one that Pillow cannot decode (NEF, ARW, DNG)."""
    try:
        values = {entry.tag: entry.offset for entry in directory(data)} if data[:4] in VALID else {}
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
