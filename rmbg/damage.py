"""What is wrong with a file that should be a picture: it breaks off, or it is something else.

Decoders notice most of it by themselves. Here is what they let through: they make grey of pixels that are missing, or print
to the terminal.
"""

from __future__ import annotations

import struct

from PIL import Image, UnidentifiedImageError

READABLE = "JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF"

#: Tags of a TIFF that its pixels cannot do without (bits, places and lengths of strips and tiles, palette, JPEG tables), and
#: the sizes of the types of numbers that are not one byte.
TIFF_NEEDED = (258, 273, 279, 320, 324, 325, 347)
TIFF_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}

#: Tags by which a camera's raw file is known.
SUBFILE_TYPE, SUB_DIRECTORIES, DNG_VERSION = 254, 330, 50706

#: The kinds of files in the ISO base media format, of which videos have many more, that are pictures.
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")


def check_directory(data: bytes) -> None:
    """Refuse a TIFF whose directory, or what its pixels cannot do without, is cut off: libtiff would print it.

    Also a camera's raw file, whose first picture is a preview: the photo would have the size of a stamp.
    """
    try:
        entries = _directory(data)
    except struct.error:
        raise UnidentifiedImageError from None
    sizes = [(tag, place, number * TIFF_SIZES.get(kind, 1)) for tag, kind, number, place in entries]
    cut = any(tag in TIFF_NEEDED and size > 4 and place + size > len(data) for tag, place, size in sizes)
    if cut or _is_raw(data):
        raise UnidentifiedImageError


def _directory(data: bytes) -> list[tuple[int, int, int, int]]:
    """Tag, type, count, and value or its place, of each entry of a TIFF's first directory; none for other files."""
    if data[:4] not in (b"II*\0", b"MM\0*"):
        return []
    order = "<" if data[:1] == b"I" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entry = struct.Struct(f"{order}HHII")
    return [entry.unpack_from(data, start + 2 + entry.size * number) for number in range(count)]


def _is_raw(data: bytes) -> bool:
    """Whether a TIFF's first picture is a smaller one of another (NEF, ARW, DNG) that is none of the series Pillow knows."""
    try:
        values = {tag: value for tag, _, _, value in _directory(data)}
    except struct.error:
        return False
    return values.get(SUBFILE_TYPE) == 1 and (SUB_DIRECTORIES in values or DNG_VERSION in values)


def check_end(data: bytes) -> None:
    """Refuse a JPEG without its end marker, such as a download that was never filled: libjpeg makes grey of what is missing."""
    at = 2 if data.startswith(b"\xff\xd8\xff") else len(data)
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data[at + 1] == 0xDA:  # the pixels begin; a preview's own markers lie inside the segments before
            if data.find(b"\xff\xd9", at) < 0:
                raise OSError("the end is missing")
            return
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def check_strips(image: Image.Image, size: int) -> None:
    """Refuse a TIFF of JPEG strips that ends before they do: they too would become grey."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if image.info.get("compression") == "jpeg":
        for offsets, counts in ((273, 279), (324, 325)):
            places = zip(tags.get(offsets, ()), tags.get(counts, ()), strict=False)
            if any(offset + count > size for offset, count in places):
                raise OSError("the end is missing")


def what_it_is(data: bytes, label: str, heif: bool) -> str:
    """A sentence about bytes that are no supported picture; `heif` says whether HEIC is supported."""
    kind = _foreign(data)
    if kind:
        return f"{label} is {kind}, not a picture that can be opened; save it as {READABLE}."
    box = data[8:12] if data[4:8] == b"ftyp" else b""
    if box in HEIF_BRANDS and not heif:
        return f"{label} is a HEIC photo; install pillow-heif to open it, or save it as JPEG."
    if box or data.startswith((b"II*\0", b"MM\0*", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")) or data[8:12] == b"WEBP":
        return f"{label} is damaged: it begins like a picture, but its header cannot be read."
    return f"{label} is not a picture that can be opened; save it as {READABLE}."


def _foreign(data: bytes) -> str | None:
    """What a file is that no picture is expected of."""
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
