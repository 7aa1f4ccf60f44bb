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


def check_directory(data: bytes) -> None:
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


def what_it_is(data: bytes, label: str) -> str:
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
